import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import type { Engine, EngineRequest, EngineResult } from '../../engine/requests.js';
import { killAfter } from '../support/checkpoints.js';
import { smollm2IsMissing, smollm2Path } from '../support/smollm2.js';

/** Widths and threads of a real model: where sums could be cut up otherwise than in the tiny ones of the property test. */
describe.skipIf(smollm2IsMissing)('SmolLM2 computed by ONNX Runtime, killed and taken up again', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'zigzag-resume-'));
  const requests = Array.from({ length: 6 }, (_, i): EngineRequest => {
    const prompt = Array.from(
      { length: [3, 20, 33, 47, 64, 90][i]! },
      (_, at) => (1000 + 77 * i + 13 * at * at) % 49152,
    );
    const sampling = { temperature: i % 2, topK: 0, topP: 0.95, seed: i };
    return { kind: 'generate', id: `${i}`, prompt, maxNewTokens: 20, stop: [], sampling, ignoreEos: true };
  });
  let engine: Engine;
  let undisturbed: EngineResult[];
  beforeAll(async () => {
    engine = await openEngine({ model: smollm2Path, backend: 'onnx', gpuBatchSize: 4 });
    undisturbed = await engine.run(requests);
  });
  afterAll(async () => {
    await engine.close();
    rmSync(scratch, { recursive: true });
  });

  it.each([
    ['its KV cache', false],
    ['its tokens alone', true],
  ])('from %s answers the same to the last bit', async (_, loseKv) => {
    const directory = await killAfter(engine, requests, 13, scratch);
    const kvFiles = readdirSync(directory).filter((name) => name.startsWith('kv-'));
    if (loseKv) for (const name of kvFiles) rmSync(join(directory, name));
    let positions: readonly (number | undefined)[] = [];
    const results = await engine.run(requests, {
      checkpoint: { directory, fencingToken: 2 },
      onProgress: ({ checkpoint }) => {
        positions = [checkpoint?.recovery?.positionsRead, checkpoint?.recovery?.positionsRebuilt];
      },
    });
    expect(positions.map((count) => count! > 100)).toEqual([!loseKv, loseKv]);
    expect(results).toEqual(undisturbed);
  });
});
