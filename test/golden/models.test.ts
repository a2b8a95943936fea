import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import type { Engine, GenerateResult } from '../../engine/requests.js';
import {
  FIXTURES,
  type Golden,
  type GoldenPrompt,
  goldenRequest,
  readGolden,
  readJsonFixture,
} from '../support/golden.js';

/** Noise of the recordings is at most 4e-5; a wrong activation or an epsilon ten times too large shows at this. */
const TOLERANCE = 2e-4;

const models = ['models/llama', 'models/llama-tied-rope3', 'models/opt', 'models/opt-350m-style', 'stories260k'];

describe.each(['reference', 'onnx'] as const)('%s', (backend) => {
  describe.each(models)('%s', (model) => {
    const golden: Golden = readGolden(model, 'golden.json');
    let engine: Engine;
    beforeAll(async () => {
      engine = await openEngine({ model: join(FIXTURES, model), backend, gpuBatchSize: 4, threads: 2 });
    });
    afterAll(() => engine?.close());

    it('gives the recorded tokens and log-probabilities for each prompt alone', async () => {
      for (const [i, prompt] of golden.prompts.entries()) {
        const [result] = await engine.run([goldenRequest(String(i), prompt)]);
        expectRecorded(result as GenerateResult, prompt);
      }
    });

    it('gives the same in a ragged batch with fewer slots than sequences', async () => {
      const results = await engine.run(golden.prompts.map((prompt, i) => goldenRequest(String(i), prompt)));
      results.forEach((result, i) => {
        expectRecorded(result as GenerateResult, golden.prompts[i]!);
      });
    });

    it.skipIf(!golden.eos)('ends at the EOS, which does not end anything in a prompt', async () => {
      const { ids, greedy, eosTokenId, maxNewTokens } = golden.eos!;
      const ending = await openEngine({ model: withEos(model, eosTokenId), backend, threads: 2 });
      const request = { ...goldenRequest('eos', { ids, greedy, logprobs: [] }), ignoreEos: false, maxNewTokens };
      const [result] = (await ending.run([request])) as GenerateResult[];
      await ending.close();
      expect(result!.tokens).toEqual(greedy);
      expect(result!.finishReason).toBe('stop');
    });

    it('gives bitwise the same alone and in a batch', async () => {
      const requests = golden.prompts.map((prompt, i) => goldenRequest(String(i), prompt));
      const together = await engine.run(requests);
      for (const [i, request] of requests.entries()) {
        expect(await engine.run([request])).toEqual([together[i]]);
      }
    });
  });
});

/** A copy of the model's directory whose only EOS is this one. */
function withEos(model: string, eosTokenId: number): string {
  const directory = mkdtempSync(join(tmpdir(), 'zigzag-eos-'));
  cpSync(join(FIXTURES, model), directory, { recursive: true });
  const config = { ...readJsonFixture<object>(model, 'config.json'), eos_token_id: eosTokenId };
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  return directory;
}

function expectRecorded(result: GenerateResult, prompt: GoldenPrompt): void {
  expect(result.tokens).toEqual(prompt.greedy);
  expectClose(result.logprobs, prompt.logprobs);
  if (prompt.promptLogprobs) {
    expect(result.promptLogprobs?.[0]).toBeNull();
    expectClose(result.promptLogprobs!.slice(1) as number[], prompt.promptLogprobs.slice(1) as number[]);
  }
  prompt.top5?.forEach((recorded, step) => {
    const found = result.topLogprobs![step]!;
    expectClose(
      found.map(([, logprob]) => logprob),
      recorded.map(([, logprob]) => logprob),
    );
  });
}

function expectClose(found: readonly number[], recorded: readonly number[]): void {
  expect(found.length).toBe(recorded.length);
  const worst = Math.max(0, ...found.map((value, i) => Math.abs(value - recorded[i]!)));
  expect(worst).toBeLessThan(TOLERANCE);
}
