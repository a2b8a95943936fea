import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import type { GenerateResult } from '../../engine/requests.js';
import { expectRecorded, FIXTURES, goldenModels, goldenRequest, readGolden } from '../support/golden.js';

const offloadDir = mkdtempSync(join(tmpdir(), 'zigzag-offloaded-'));
afterAll(() => rmSync(offloadDir, { recursive: true }));

/** Everything has a share on every tier that there is; parts are small, so that each matrix has several. */
const shares = {
  cpu: { gpu: 0, cpu: 0.4, disk: 0.6 },
  sim: { gpu: 0.3, cpu: 0.3, disk: 0.4 },
};
const cases = [
  ['cpu', 'continuous', true],
  ['sim', 'block', false],
] as const;

describe.each(['reference', 'onnx'] as const)('%s', (backend) => {
  describe.each(goldenModels)('%s', (model) => {
    it.each(cases)('gives the recorded answers on device %s, schedule %s, overlap %s', async (...given) => {
      const [device, schedule, overlap] = given;
      const fractions = shares[device];
      const engine = await openEngine({
        model: join(FIXTURES, model),
        weightBits: 32,
        offloadDir,
        policy: { weights: fractions, kv: fractions, activations: fractions, partBytes: 8192, buffers: 3 },
        ...{ backend, device, schedule, overlap, gpuBatchSize: 3, numGpuBatches: 2, threads: 2 },
      });
      const { prompts } = readGolden(model, 'golden.json');
      const results = await engine.run(prompts.map((prompt, i) => goldenRequest(String(i), prompt)));
      results.forEach((result, i) => {
        expectRecorded(result as GenerateResult, prompts[i]!);
      });
      const { bytesMoved } = await engine.usage();
      for (const [what, bytes] of Object.entries(bytesMoved)) expect([what, bytes > 0]).toEqual([what, true]);
      await engine.close();
    });
  });
});
