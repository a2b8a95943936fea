import { describe, expect, it } from 'vitest';
import { namedShape } from '../../engine/model/named-shapes.js';
import { anyWidth, type HardwareProfile, type Rehearsal } from '../../engine/policy/hardware.js';
import { openSolver } from '../../engine/policy/highs.js';
import { valueAt } from '../../engine/policy/linear-program.js';
import { planMemory } from '../../engine/policy/memory-plan.js';
import { type Choice, fixedUse, type MemoryCase, tierUses } from '../../engine/policy/memory-use.js';
import { valuesOf } from '../../engine/policy/placement-program.js';
import { memoryCase, planChoice, predict } from '../../engine/policy/plan.js';
import { allOn, checkPolicy } from '../../engine/policy/policy.js';
import { namedHardware } from '../../engine/policy/profiles.js';
import { type SearchRequest, searchPolicy } from '../../engine/policy/search.js';

const solve = await openSolver();
const GB = 1e9;

/** A cpu whose every rate is round. */
const cpu: HardwareProfile = {
  name: 'round numbers',
  source: 'a test',
  computeTier: 'cpu',
  capacityBytes: { gpu: 0, cpu: 8 * GB, disk: 100 * GB },
  links: { diskRead: { alone: 2e9, together: 1e9 }, diskWrite: { alone: 1e9, together: 0.5e9 } },
  products: {
    float16: anyWidth([
      [1, 4e9],
      [64, 200e9],
    ]),
  },
  attention: { prompt: [[1, 50e9]], cacheBytesPerSecond: { cpu: 10e9 } },
  elementsPerSecond: 1e9,
  callSeconds: 0,
};

const request = (change: Partial<SearchRequest> = {}): SearchRequest => ({
  config: namedShape('llama-1.1b'),
  profile: cpu,
  workload: { numSequences: 256, promptTokens: 128, newTokens: 16, contextTokens: 144 },
  overlap: true,
  capacityBytes: cpu.capacityBytes,
  weightTypes: ['float16'],
  kvBits: [32],
  schedules: ['continuous', 'block'],
  ...change,
});
const budget = (bytes: number) => ({ ...cpu.capacityBytes, cpu: bytes });

const choice: Choice = {
  gpuBatchSize: 32,
  numGpuBatches: 1,
  schedule: 'continuous',
  weightType: 'float16',
  kvBits: 32,
  attention: 'device',
  resident: false,
};

/** With all weights on one tier, and the KV cache on another. */
function predictAll(weights: 'cpu' | 'disk', whole: Choice, study: SearchRequest, kv: 'cpu' | 'disk' = 'cpu') {
  const fractions = { weights: allOn(weights), kv: allOn(kv), activations: allOn('cpu') };
  return predict(study, whole, fixedUse(memoryCase(study), whole), fractions);
}

describe('what a choice needs of memory', () => {
  it.each([550e6, 1e9, 2e9])('is what the memory plan gives to the same uses, within %i B', (budgetBytes) => {
    const study: MemoryCase = {
      config: namedShape('llama-1.1b'),
      computeTier: 'cpu',
      capacityBytes: budget(budgetBytes),
      contextTokens: 144,
    };
    const { bytes, policy } = planMemory({
      ...study,
      ...choice,
      budgetBytes,
      spillBytes: 0,
      overlap: true,
      kv: allOn('cpu'),
      gpuBatchSize: 16,
    });
    const chosen = { ...choice, gpuBatchSize: policy.gpuBatchSize };
    const [use] = tierUses(study, chosen, fixedUse(study, chosen)).filter(({ tier }) => tier === 'cpu');
    const planned = Object.values(bytes).reduce((sum, part) => sum + part, 0);
    const { weights, kv, activations } = policy;
    expect(valueAt(use!.bytes, valuesOf({ weights, kv, activations }))).toBeCloseTo(planned, -1);
  });
});

describe('a plan', () => {
  it.each([300e6, 550e6, 1e9, 2e9, 8e9])('within %i B fits, and can be run as it is', (bytes) => {
    const study = request({ capacityBytes: budget(bytes) });
    const { best } = searchPolicy(study, solve);
    checkPolicy(best.policy, 'cpu');
    expect(best.predicted.peakBytes.cpu).toBeLessThanOrEqual(1.000001 * bytes);
    expect(best.policy.kv.cpu * best.policy.gpuBatchSize).toBeCloseTo(
      Math.round(best.policy.kv.cpu * best.policy.gpuBatchSize),
      6,
    );
  });

  it('keeps everything in memory where there is room', () => {
    const { best } = searchPolicy(request(), solve);
    expect(best.fractions).toMatchObject({ weights: { cpu: 1 }, kv: { cpu: 1 }, activations: { cpu: 1 } });
    expect(best.choice.resident).toBe(true);
  });

  it('has the sizes that are given, even where they are more than the sequences', () => {
    const workload = { numSequences: 32, promptTokens: 128, newTokens: 16, contextTokens: 144 };
    for (const given of [{ gpuBatchSize: 48 }, { numGpuBatches: 40 }, { gpuBatchSize: 16, numGpuBatches: 4 }]) {
      expect(searchPolicy(request({ workload, ...given }), solve).best.policy).toMatchObject(given);
    }
  });

  it('is never slower with more memory', () => {
    const seconds = [300e6, 550e6, 1e9, 2e9, 4e9].map((bytes) => {
      return searchPolicy(request({ capacityBytes: budget(bytes) }), solve).best.predicted.totalSeconds;
    });
    for (let i = 1; i < seconds.length; i++) expect(seconds[i]).toBeLessThan(1.01 * seconds[i - 1]!);
  });

  it('is no slower than any plan of a sweep over sizes and schedules', () => {
    const study = request({ capacityBytes: budget(550e6) });
    const { best } = searchPolicy(study, solve);
    for (const schedule of ['continuous', 'block'] as const) {
      for (const gpuBatchSize of [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]) {
        const plan = planChoice(study, { ...choice, schedule, gpuBatchSize }, solve);
        if (plan) expect(best.predicted.totalSeconds).toBeLessThan(1.01 * plan.predicted.totalSeconds);
      }
    }
  });

  it.each([300e6, 550e6, 1e9])('is no slower than its own alternatives that may be chosen, within %i B', (bytes) => {
    const { best, alternatives } = searchPolicy(request({ capacityBytes: budget(bytes) }), solve);
    expect(alternatives.length).toBeGreaterThan(3);
    for (const { plan } of alternatives) {
      if (plan) expect(plan.predicted.totalSeconds).toBeGreaterThan(0.998 * best.predicted.totalSeconds);
    }
  });

  it('costs what its bytes and operations say, where rates are round', () => {
    // One prompt of one token and no decoding: a sweep reads all that is on disk, and everything is on disk.
    const study = request({ workload: { numSequences: 1, promptTokens: 1, newTokens: 1, contextTokens: 2 } });
    const one = { ...choice, gpuBatchSize: 1 };
    const fixed = fixedUse(memoryCase(study), one);
    const { totalSeconds, bound, sweeps } = predict(study, one, fixed, {
      weights: allOn('disk'),
      kv: allOn('cpu'),
      activations: allOn('cpu'),
    });
    // 22 layers of 44,040,192 values, a head of 65,536,000, and a row of the table, in fp16 at 2 GB/s.
    const seconds = (2 * (22 * 44_040_192 + 65_536_000 + 2048)) / 2e9;
    expect(Math.abs(totalSeconds / seconds - 1)).toBeLessThan(0.01);
    expect([bound, sweeps]).toEqual(['diskRead', 1]);
  });

  it('waits for the vocabulary, but for what the buffers hold, however long the layers take', () => {
    const profile = { ...cpu, products: { float16: anyWidth([[1, 200e9]]) } };
    const workload = { numSequences: 4, promptTokens: 512, newTokens: 1, contextTokens: 513 };
    const study = request({ profile, workload });
    const one = { ...choice, gpuBatchSize: 4 };
    const { steps, sweeps, bound } = predictAll('disk', one, study);
    expect(bound).toBe('compute');
    const held = 8 * fixedUse(memoryCase(study), one).partBytes;
    const [head, layers] = [2 * 65_536_000 - held, 2 * 22 * 44_040_192 + held];
    // The few rows' products take a few milliseconds; of what is hidden behind the layers a hundredth counts.
    const headProducts = (4 * 2 * 65_536_000) / 200e9;
    const waiting = (sweeps * head) / 2e9 - headProducts + (0.01 * sweeps * layers) / 2e9;
    expect(steps.waiting / waiting).toBeCloseTo(1, 2);
  });

  it('waits for the keys and values of GPU batches behind the first, however long the products take', () => {
    const profile = { ...cpu, products: { float16: anyWidth([[1, 20e9]]) } };
    const study = request({ profile, workload: { ...request().workload, numSequences: 32 } });
    const waiting = (numGpuBatches: number) => {
      const cells = { ...choice, schedule: 'block' as const, gpuBatchSize: 32 / numGpuBatches, numGpuBatches };
      const { steps } = predictAll('cpu', { ...cells, resident: true }, study, 'disk');
      return steps.waiting;
    };
    const [one, four] = [waiting(1), waiting(4)];
    // 32 sequences of 5 blocks, 15 times: three quarters of it, at 2 GB/s; attention beside it takes a fifth.
    const cachedBytes = 15 * 32 * 5 * 32 * 22 * 2 * 4 * 256;
    expect(four - one).toBeGreaterThan(0.7 * 0.75 * (cachedBytes / 2e9));
    expect(four - one).toBeLessThan(0.9 * 0.75 * (cachedBytes / 2e9));
  });

  it('takes longer by what the whole engine takes beside its parts, between the widths that were rehearsed', () => {
    const rehearsal = { products: 1, partSeconds: 0, attention: 1, disk: 1 };
    const seconds = (weights: 'cpu' | 'disk', wider: Partial<Rehearsal>) => {
      const rehearsed = [
        { ...rehearsal, width: 1024 },
        { ...rehearsal, ...wider, width: 4096 },
      ];
      const study = request({ profile: { ...cpu, rehearsed } });
      return predictAll(weights, { ...choice, resident: weights === 'cpu' }, study).steps;
    };
    const streamed = seconds('disk', {});
    const resident = seconds('cpu', {});
    // 2048 is in the middle, on a scale of logarithms.
    expect(seconds('disk', { products: 3 }).products).toBeCloseTo(2 * streamed.products, 6);
    expect(seconds('cpu', { products: 3 }).products).toBeCloseTo(2 * resident.products, 6);
    expect(seconds('cpu', { partSeconds: 1 })).toEqual(resident);
    const { parts } = fixedUse(memoryCase(request()), choice);
    const { sweeps } = predictAll('disk', choice, request());
    expect(seconds('disk', { partSeconds: 1 }).products).toBeCloseTo(streamed.products + 0.5 * parts * sweeps, 3);
    expect(seconds('cpu', { attention: 3 }).attention).toBeCloseTo(2 * resident.attention, 6);
    expect(seconds('disk', { disk: 300 }).all).toBeGreaterThan(10 * streamed.all);
  });

  it('compares with what was not chosen', () => {
    const { best, alternatives } = searchPolicy(
      request({ capacityBytes: budget(550e6), otherWeightTypes: ['int4'] }),
      solve,
    );
    const fields = alternatives.map(({ field, value }) => `${field} ${value}`);
    expect(fields).toContain('weightType int4');
    expect(fields).toContain(`schedule ${best.choice.schedule === 'block' ? 'continuous' : 'block'}`);
    for (const { field, value, plan } of alternatives) if (plan) expect(plan.choice[field]).toBe(value);
  });
});

describe('a budget that holds nothing', () => {
  it.each([
    ['cpu', { cpu: 30e6 }, '--host-memory'],
    ['disk', { disk: 1e9 }, '--disk-memory'],
  ] as const)('is refused with the tier that binds and what would make it fit: %s', (tier, bytes, option) => {
    const study = request({ capacityBytes: { ...cpu.capacityBytes, ...bytes } });
    const refused = expect.objectContaining({
      code: 'OUT_OF_MEMORY',
      message: expect.stringContaining(option),
      details: expect.objectContaining({ tier }),
    });
    expect(() => searchPolicy(study, solve)).toThrow(refused);
  });

  it('fits once the tier holds what the message says', () => {
    const profile = namedHardware('t4-208gb');
    const small = { gpu: 15 * 2 ** 30, cpu: 100 * GB, disk: 300 * GB };
    const study = request({ config: namedShape('opt-175b'), profile, kvBits: [16], capacityBytes: small });
    let needBytes = 0;
    try {
      searchPolicy(study, solve);
    } catch (error) {
      ({ needBytes } = (error as { details: { needBytes: number } }).details);
    }
    expect(needBytes).toBeGreaterThan(300 * GB);
    const { best } = searchPolicy({ ...study, capacityBytes: { ...small, disk: 1.001 * needBytes } }, solve);
    expect(best.predicted.peakBytes.disk).toBeLessThanOrEqual(1.001 * needBytes);
  });
});
