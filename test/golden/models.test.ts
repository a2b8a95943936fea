import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import type { Engine, GenerateResult } from '../../engine/requests.js';
import {
  expectRecorded,
  FIXTURES,
  type Golden,
  goldenModels,
  goldenRequest,
  readGolden,
  readJsonFixture,
} from '../support/golden.js';

describe.each(['reference', 'onnx'] as const)('%s', (backend) => {
  describe.each(goldenModels)('%s', (model) => {
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
