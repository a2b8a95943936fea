import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelsDirectory } from '../../cli/bootstrap.js';
import { GEMMA } from '../../cli/published.js';
import { openEngineHost } from '../../engine/host.js';
import { type OpenModel, openModel } from '../../engine/model/open.js';
import type { Engine, GenerateResult } from '../../engine/requests.js';
import { goldenRequest, readGolden, readJsonFixture } from '../support/golden.js';

interface TokenizerCase {
  readonly text: string;
  readonly ids?: readonly number[];
  readonly idsWithoutSpecial?: readonly number[];
  readonly decoded: string;
}

/** Of one log-probability: the recording is in double precision, and the first token's hidden state is very large. */
const TOLERANCE = 1e-3;

const path = join(modelsDirectory(), GEMMA.name, GEMMA.file);
const { prompts } = readGolden('gemma3-270m', 'golden.json');
const { cases } = readJsonFixture<{ cases: readonly TokenizerCase[] }>('gemma3-270m', 'tokenizer-cases.json');

describe.skipIf(!existsSync(path))('Gemma 3 270M from its Q4_K_M file', () => {
  let model: OpenModel;
  let engine: Engine;
  beforeAll(async () => {
    model = await openModel(path);
    engine = await openEngineHost({ model: path, backend: 'onnx', threads: 2 });
  }, 120_000);
  afterAll(async () => {
    await engine?.close();
    await model?.weights.close();
  });

  it('goes on from text as recorded, within and beyond the windows of its layers, in one ragged batch', async () => {
    const requests = prompts.map((prompt, i) => ({ ...goldenRequest(String(i), prompt), prompt: prompt.text! }));
    const results = (await engine.run(requests)) as GenerateResult[];
    results.forEach(({ tokens, logprobs, promptLogprobs, promptTokens }, i) => {
      const recorded = prompts[i]!;
      expect(promptTokens).toBe(recorded.ids.length);
      expect(tokens).toEqual(recorded.greedy);
      recorded.logprobs.forEach((logprob, step) => {
        expect(Math.abs(logprobs[step]! - logprob)).toBeLessThan(TOLERANCE);
      });
      recorded.promptLogprobs?.forEach((logprob, at) => {
        if (logprob !== null) expect(Math.abs(promptLogprobs![at]! - logprob)).toBeLessThan(TOLERANCE);
      });
    });
  });

  it.each(cases)('encodes $text as sentencepiece does, and decodes it', async ({ text, ids, ...recorded }) => {
    const { tokenizer } = model;
    if (ids) {
      expect(await tokenizer!.encode(text)).toEqual(ids);
      expect(tokenizer!.decode(ids, { skipSpecial: true })).toBe(recorded.decoded);
    } else expect(await tokenizer!.encode(text, { parseSpecial: false })).toEqual(recorded.idsWithoutSpecial);
  });
});
