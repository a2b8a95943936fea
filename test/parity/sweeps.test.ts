/** What the cost model counts, beside what the engine counted: sweeps, rows, bytes moved, and the peak of each tier. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import { writeStore } from '../../engine/model/store-write.js';
import { anyWidth, type HardwareProfile } from '../../engine/policy/hardware.js';
import { valueAt } from '../../engine/policy/linear-program.js';
import { type Choice, fixedUse, type MemoryCase, tierUses } from '../../engine/policy/memory-use.js';
import { valuesOf } from '../../engine/policy/placement-program.js';
import { predictPolicy } from '../../engine/policy/plan.js';
import { allOn, type Policy } from '../../engine/policy/policy.js';
import { sweepsOf } from '../../engine/policy/workload.js';
import type { EngineOptions, EngineUsage, GenerateRequest } from '../../engine/requests.js';
import { tinyModels, tinyWeights } from '../support/tiny-models.js';

const scratch = mkdtempSync(join(tmpdir(), 'zigzag-sweeps-'));
const config = tinyModels.llama!;
const model = join(scratch, 'llama');
beforeAll(() => writeStore(tinyWeights(config), model, { format: 'fp32' }));
afterAll(() => rmSync(scratch, { recursive: true }));

const profile: HardwareProfile = {
  name: 'slow disk',
  source: 'a test',
  computeTier: 'cpu',
  capacityBytes: { gpu: 0, cpu: 1e9, disk: 1e9 },
  links: { diskRead: { alone: 1e6, together: 5e5 }, diskWrite: { alone: 1e6, together: 5e5 } },
  products: { float32: anyWidth([[1, 1e9]]) },
  attention: { prompt: [[1, 1e9]], cacheBytesPerSecond: { cpu: 1e9 } },
  elementsPerSecond: 1e9,
  callSeconds: 0,
};

const [promptTokens, newTokens] = [20, 9];
const contextTokens = promptTokens + newTokens;
const half = { gpu: 0, cpu: 0.5, disk: 0.5 };

const base: Policy = {
  gpuBatchSize: 8,
  numGpuBatches: 1,
  schedule: 'continuous',
  overlap: true,
  maxRows: 64,
  paced: false,
  weights: half,
  kv: allOn('cpu'),
  activations: allOn('cpu'),
  partBytes: 8192,
  buffers: 8,
  prefixBytes: 0,
};

function requestsOf(numSequences: number): GenerateRequest[] {
  return Array.from({ length: numSequences }, (_, i) => {
    const prompt = Array.from({ length: promptTokens }, (_, at) => (i + 3 * at) % config.vocabSize);
    const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
    return { kind: 'generate', id: `${i}`, prompt, maxNewTokens: newTokens, stop: [], sampling, ignoreEos: true };
  });
}

async function run(policy: Policy, numSequences: number): Promise<EngineUsage> {
  const engine = await openEngine({
    model,
    backend: 'reference',
    policy,
    contextTokens,
    offloadDir: join(scratch, 'run'),
    // Some requests are equal.
    sharing: false,
  });
  try {
    await engine.run(requestsOf(numSequences));
    return await engine.usage();
  } finally {
    await engine.close();
  }
}

describe('the sweeps of the cost model', () => {
  it.each([
    ['continuous', {}, 30],
    ['continuous and paced', { paced: true }, 30],
    ['block', { schedule: 'block' }, 30],
    ['several GPU batches', { numGpuBatches: 3, paced: true }, 50],
    ['several GPU batches in blocks', { numGpuBatches: 2, schedule: 'block' }, 41],
    ['a last block that is not full', { schedule: 'block' }, 42],
    ['fewer sequences than places', { gpuBatchSize: 16 }, 5],
    ['one sequence at a time', { gpuBatchSize: 1 }, 4],
  ] as [string, Partial<Policy>, number][])('are those of the engine: %s', async (_, change, numSequences) => {
    const policy = { ...base, ...change };
    const usage = await run(policy, numSequences);
    const groups = sweepsOf(policy, { numSequences, promptTokens, newTokens, contextTokens }, 1);
    const total = (field: 'promptRows' | 'decodeRows') =>
      groups.reduce((sum, group) => sum + group.count * group[field], 0);
    expect(groups.reduce((sum, { count }) => sum + count, 0)).toBe(usage.sweeps);
    expect(total('promptRows')).toBeCloseTo(usage.promptRows, 6);
    expect(total('decodeRows')).toBeCloseTo(usage.decodeRows, 6);
  });

  it.each([true, false])('are paced where the policy that is predicted is: %s', async (paced) => {
    const workload = { numSequences: 30, promptTokens, newTokens, contextTokens };
    const capacityBytes = { gpu: 0, cpu: 1e9, disk: 1e9 };
    const policy = { ...base, paced };
    const { sweeps } = predictPolicy({ config, profile, workload, overlap: true, capacityBytes }, policy, 'float32');
    expect(sweeps).toBe((await run(policy, 30)).sweeps);
  });

  it.each([true, false])('of a long queue are counted from its beginning and end, paced: %s', async (paced) => {
    const policy = { ...base, gpuBatchSize: 4, paced };
    const numSequences = 150;
    const usage = await run(policy, numSequences);
    const groups = sweepsOf(policy, { numSequences, promptTokens, newTokens, contextTokens }, 1);
    const sweeps = groups.reduce((sum, { count }) => sum + count, 0);
    const rows = groups.reduce((sum, group) => sum + group.count * (group.promptRows + group.decodeRows), 0);
    expect(Math.abs(sweeps / usage.sweeps - 1)).toBeLessThan(0.03);
    expect(Math.abs(rows / usage.rows - 1)).toBeLessThan(0.01);
  });
});

describe('the bytes of the cost model', () => {
  it.each([
    ['all in memory', { weights: allOn('cpu') }],
    ['weights half on disk', {}],
    ['KV cache half on disk', { kv: half }],
    ['everything on disk', { weights: allOn('disk'), kv: allOn('disk') }],
  ] as [string, Partial<Policy>][])('are never below the peak of a tier, nor far above: %s', async (_, change) => {
    const policy = { ...base, ...change };
    const usage = await run(policy, 40);
    const unbounded = Number.POSITIVE_INFINITY;
    const capacityBytes = { gpu: 0, cpu: unbounded, disk: unbounded };
    const study: MemoryCase = { config, computeTier: 'cpu', capacityBytes, contextTokens };
    const choice: Choice = {
      ...policy,
      weightType: 'float32',
      kvBits: 32,
      attention: 'device',
      resident: policy.weights.cpu === 1,
    };
    for (const { tier, bytes } of tierUses(study, choice, fixedUse(study, choice))) {
      const planned = valueAt(bytes, valuesOf(policy));
      expect(planned, tier).toBeGreaterThanOrEqual(usage.peakBytes[tier]);
      // Buffers of whole blocks are most of what so small a model holds.
      if (tier === 'disk') expect(planned).toBeLessThan(1.3 * usage.peakBytes[tier]);
    }
  });
});

describe('an engine that plans', () => {
  const planning = { profile, work: { numSequences: 40, promptTokens, newTokens } };

  it('runs by the searched policy within its budget, and answers as without one', async () => {
    const offloadDir = join(scratch, 'run');
    const open = (options: Partial<EngineOptions>) =>
      openEngine({ model, backend: 'reference', contextTokens, offloadDir, ...options });
    const [plain, planned] = [await open({}), await open({ hostMemoryBytes: 4e6, planning })];
    try {
      const expected = await plain.run(requestsOf(40));
      expect(await planned.run(requestsOf(40))).toEqual(expected);
      const { policy } = planned.info;
      expect(policy.gpuBatchSize).toBeLessThanOrEqual(40);
      expect((await planned.usage()).peakBytes.cpu).toBeLessThanOrEqual(4e6);
      const study = { ...planning, config, overlap: true, capacityBytes: { gpu: 0, cpu: 4e6, disk: 1e9 } };
      const workload = { ...planning.work, contextTokens };
      const seconds = (one: Policy) => predictPolicy({ ...study, workload }, one, 'float32').totalSeconds;
      // The memory plan's own choice for the same budget.
      const unplanned = await open({ hostMemoryBytes: 4e6 });
      await unplanned.close();
      expect(seconds(policy)).toBeLessThanOrEqual(1.001 * seconds(unplanned.info.policy));
    } finally {
      await plain.close();
      await planned.close();
    }
  });
});
