import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { GenerateResult } from '../../engine/requests.js';
import { tinyModels, tinyWeights } from '../support/tiny-models.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-windows-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** More than two tiles of a prompt's attention, and many blocks of the KV cache. */
const LENGTH = 600;

it('a window holds alike for a prompt computed at once and for tokens that came one by one', async () => {
  const config = { ...tinyModels['windows, soft caps, norms around each half']!, maxPositions: LENGTH + 1 };
  await writeStore(tinyWeights(config), directory, { format: 'fp32' });
  const engine = await openEngine({ model: directory, backend: 'onnx', threads: 2 });
  const request = {
    kind: 'generate',
    id: 'a',
    stop: [],
    // Sampled, since greedy paths of small models go round in circles.
    sampling: { temperature: 1, topK: 0, topP: 1, seed: 5 },
    ignoreEos: true,
    promptLogprobs: true,
  } as const;
  const [decoded] = (await engine.run([{ ...request, prompt: [1], maxNewTokens: LENGTH - 1 }])) as GenerateResult[];
  expect(new Set(decoded!.tokens).size).toBeGreaterThan(30);
  const prompt = [1, ...decoded!.tokens];
  const [prefilled] = (await engine.run([{ ...request, prompt, maxNewTokens: 1 }])) as GenerateResult[];
  const apart = decoded!.logprobs.map((logprob, i) => Math.abs(logprob - prefilled!.promptLogprobs![i + 1]!));
  expect(Math.max(...apart)).toBeLessThan(1e-4);
  await engine.close();
});
