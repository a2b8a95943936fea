import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openActivations } from '../../engine/memory/activations.js';
import { openTiers } from '../../engine/memory/tier.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { residentPolicy } from '../../engine/policy/policy.js';
import { Trace } from '../../engine/trace.js';

const directory = mkdtempSync(join(tmpdir(), 'activations-'));
afterAll(() => rmSync(directory, { recursive: true }));

const config = { hiddenSize: 24 } as ModelConfig;
const ROWS = 10;
const values = (first: number) => Float32Array.from({ length: ROWS * 24 }, (_, i) => first + i);

function open(activations: { gpu: number; cpu: number; disk: number }, overlap = true) {
  const tiers = openTiers({ gpu: 2 ** 20, cpu: 2 ** 20, disk: 2 ** 20 });
  const policy = residentPolicy({ gpuBatchSize: 1, numGpuBatches: 1, schedule: 'continuous', overlap }, 'gpu');
  const memory = { tiers, computeTier: 'gpu', directory } as const;
  return { tiers, store: openActivations(config, { ...policy, activations }, memory, new Trace()) };
}

describe.each([true, false])('hidden states that wait, overlap %s', (overlap) => {
  it.each([
    ['where attention computes', { gpu: 1, cpu: 0, disk: 0 }, { cpu: 0, disk: 0 }],
    ['on the cpu', { gpu: 0, cpu: 1, disk: 0 }, { cpu: 10 * 96, disk: 0 }],
    ['on disk, in whole blocks', { gpu: 0, cpu: 0, disk: 1 }, { cpu: 0, disk: 4096 }],
    ['a part on each', { gpu: 0.5, cpu: 0.3, disk: 0.2 }, { cpu: 3 * 96, disk: 4096 }],
  ])('%s, come back as they were', async (_, fractions, held) => {
    const { tiers, store } = open(fractions, overlap);
    for (const first of [0, 1000]) {
      const parked = await store.park(values(first));
      expect({ cpu: tiers.cpu.usedBytes, disk: tiers.disk.usedBytes }).toEqual(held);
      expect(await parked.restore()).toEqual(values(first));
      expect([tiers.cpu.usedBytes, tiers.disk.usedBytes]).toEqual([0, 0]);
    }
    await store.close();
  });
});

it('hidden states that nobody takes back leave neither bytes nor a file', async () => {
  const { tiers, store } = open({ gpu: 0.2, cpu: 0.4, disk: 0.4 });
  await store.park(values(0));
  await store.close();
  expect([tiers.cpu.usedBytes, tiers.disk.usedBytes]).toEqual([0, 0]);
  expect(readdirSync(directory)).toEqual([]);
});
