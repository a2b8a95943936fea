import { describe, expect, it } from 'vitest';
import { namedShape } from '../../engine/model/named-shapes.js';
import { type MemoryPlan, type MemoryRequest, planMemory, streamedBytes } from '../../engine/policy/memory-plan.js';
import { allOn, checkPolicy, type Policy, residentPolicy } from '../../engine/policy/policy.js';

const MB = 1e6;
const request: MemoryRequest = {
  config: namedShape('llama-1.1b'),
  weightType: 'float16',
  computeTier: 'cpu',
  budgetBytes: 550 * MB,
  spillBytes: 0,
  kv: allOn('cpu'),
  contextTokens: 144,
  gpuBatchSize: 64,
  numGpuBatches: 1,
  schedule: 'continuous',
  overlap: true,
};

const sum = ({ bytes }: MemoryPlan) => Object.values(bytes).reduce((total, part) => total + part, 0);

/** Where a plan is refused, undefined. */
function tryPlan(asked: MemoryRequest): MemoryPlan | undefined {
  try {
    return planMemory(asked);
  } catch (error) {
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY' });
    return undefined;
  }
}

const models = ['opt-125m', 'opt-1.3b', 'llama-1.1b', 'llama-2-7b'] as const;
const budgets = [20, 50, 100, 200, 550, 1000, 2500, 6000, 30_000].map((megabytes) => megabytes * MB);

describe('a memory plan', () => {
  it.each(models)('never plans for more than the budget, and places no share below zero: %s', (model) => {
    let planned = 0;
    for (const weightType of ['float32', 'float16', 'int8', 'int4'] as const) {
      for (const budgetBytes of budgets) {
        for (const contextTokens of [144, 1024]) {
          for (const kv of [allOn('cpu'), { gpu: 0, cpu: 0.25, disk: 0.75 }, allOn('disk')]) {
            const config = namedShape(model);
            const plan = tryPlan({ ...request, config, weightType, budgetBytes, contextTokens, kv });
            if (!plan) continue;
            planned++;
            expect(sum(plan)).toBeLessThanOrEqual(budgetBytes);
            for (const bytes of Object.values(plan.bytes)) expect(bytes).toBeGreaterThanOrEqual(0);
            checkPolicy(plan.policy, 'cpu');
          }
        }
      }
    }
    expect(planned).toBeGreaterThan(50);
  });

  it('keeps more of the weights in memory, or more sequences live, with a larger budget', () => {
    let before = { share: -1, slots: 0 };
    for (const budgetBytes of budgets) {
      const plan = tryPlan({ ...request, budgetBytes });
      if (!plan) continue;
      const now = { share: plan.policy.weights.cpu, slots: plan.policy.gpuBatchSize };
      expect(now.slots).toBeGreaterThanOrEqual(before.slots);
      if (now.slots === before.slots) expect(now.share).toBeGreaterThanOrEqual(before.share);
      before = now;
    }
    expect(before).toEqual({ share: 1, slots: 64 });
  });

  it('streams nothing once everything fits, and needs no buffers then', () => {
    const { policy, bytes } = planMemory({ ...request, budgetBytes: 4000 * MB });
    expect(policy).toMatchObject({ weights: { cpu: 1, disk: 0 }, paced: false });
    expect(bytes).toMatchObject({ buffers: 0, weights: streamedBytes(request.config, 'float16') });
  });

  it('gives the KV cache at most two fifths of the budget', () => {
    const { policy, bytes } = planMemory({ ...request, contextTokens: 1024 });
    expect(bytes.kv).toBeLessThanOrEqual(0.4 * request.budgetBytes);
    // Keys and values of 4 heads of 64, on 22 layers, in float32.
    expect(policy.gpuBatchSize).toBe(Math.floor((0.4 * request.budgetBytes) / (1024 * 22 * 2 * 256 * 4)));
  });

  it('keeps more sequences live where their KV cache lies on disk', () => {
    const long = { ...request, contextTokens: 2048 };
    const [inMemory, onDisk] = [planMemory(long), planMemory({ ...long, kv: allOn('disk') })];
    expect(onDisk.policy.gpuBatchSize).toBeGreaterThan(2 * inMemory.policy.gpuBatchSize);
  });

  it('fills the gpu first, then the cpu beside it, then the disk', () => {
    const gpu = { ...request, computeTier: 'gpu', kv: allOn('gpu') } as const;
    const { policy, bytes } = planMemory({ ...gpu, spillBytes: 550 * MB });
    expect(policy.weights.gpu).toBeCloseTo(bytes.weights / streamedBytes(request.config, 'float16'), 6);
    expect(policy.weights.gpu).toBeGreaterThan(0.05);
    // 2.07 GB of matrices; nine tenths of the cpu's memory.
    expect(policy.weights.cpu).toBeCloseTo((0.9 * 550 * MB) / streamedBytes(request.config, 'float16'), 6);
    expect(planMemory({ ...gpu, spillBytes: 10_000 * MB }).policy.weights.disk).toBe(0);
  });

  it.each([
    ['cpu', { budgetBytes: 30 * MB }, '--host-memory'],
    ['gpu', { budgetBytes: 30 * MB, computeTier: 'gpu', kv: allOn('gpu') }, '--device-memory'],
    ['cpu', { computeTier: 'gpu', kv: allOn('cpu'), spillBytes: MB }, '--host-memory'],
  ] as const)('says which budget is too small: %s', (tier, change, option) => {
    const asked = { ...request, ...change } as MemoryRequest;
    const capacityBytes = 'spillBytes' in change ? change.spillBytes : change.budgetBytes;
    expect(() => planMemory(asked)).toThrow(
      expect.objectContaining({
        code: 'OUT_OF_MEMORY',
        message: expect.stringContaining(option),
        details: expect.objectContaining({ tier, capacityBytes, needBytes: expect.any(Number) }),
      }),
    );
  });
});

describe('a policy', () => {
  const policy = residentPolicy({ gpuBatchSize: 4, numGpuBatches: 1, schedule: 'continuous', overlap: true });

  it.each([
    ['fractions above one whole', { kv: { gpu: 0, cpu: 0.7, disk: 0.7 } }, 'policy.kv: gpu 0, cpu 0.7, disk 0.7'],
    ['a share below zero', { weights: { gpu: 0, cpu: 1.5, disk: -0.5 } }, 'policy.weights'],
    ['a share that is no number', { activations: { gpu: 0, cpu: Number.NaN, disk: 1 } }, 'policy.activations'],
    ['a gpu that is not there', { kv: { gpu: 0.5, cpu: 0.5, disk: 0 } }, 'there is no gpu here'],
    ['no sequences', { gpuBatchSize: 0 }, 'policy.gpuBatchSize: needed at least 1, found 0'],
    ['one buffer, where gate and up need two', { buffers: 1 }, 'policy.buffers: needed at least 2, found 1'],
  ] as [string, Partial<Policy>, string][])('is refused with %s', (_, change, message) => {
    const error = expect.objectContaining({ code: 'BAD_INPUT', message: expect.stringContaining(message) });
    expect(() => checkPolicy({ ...policy, ...change }, 'cpu')).toThrow(error);
  });
});
