import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { benchPlanning, predictBench } from '../../cli/bench-plan.js';
import { findHardware, machineIdentity, measuredPath } from '../../cli/hardware.js';
import type { EngineError } from '../../engine/errors.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { anyWidth, type HardwareProfile, usableBytes } from '../../engine/policy/hardware.js';
import { formatHardware } from '../../engine/policy/hardware-file.js';
import { planMemory } from '../../engine/policy/memory-plan.js';
import { type PolicyRequest, planPolicy } from '../../engine/policy/planned.js';
import { allOn, checkPolicy } from '../../engine/policy/policy.js';
import type { GenerateRequest } from '../../engine/requests.js';

const scratch = mkdtempSync(join(tmpdir(), 'zigzag-bench-plan-'));
beforeEach(() => vi.stubEnv('XDG_CACHE_HOME', mkdtempSync(join(scratch, 'cache-'))));
afterEach(() => vi.unstubAllEnvs());
afterAll(() => rmSync(scratch, { recursive: true }));

const profile: HardwareProfile = {
  name: 'this machine',
  source: 'a test',
  machine: machineIdentity(),
  computeTier: 'cpu',
  capacityBytes: { gpu: 0, cpu: 8e9, disk: 100e9 },
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

function measured(as: HardwareProfile): void {
  mkdirSync(dirname(measuredPath()), { recursive: true });
  writeFileSync(measuredPath(), formatHardware(as));
}

const model = { path: '', config: namedShape('opt-125m'), tokenizer: undefined, file: '', form: '' };
const requests = Array.from({ length: 64 }, (_, i): GenerateRequest => {
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  const prompt = Array.from({ length: 128 }, () => 1);
  return { kind: 'generate', id: `${i}`, prompt, maxNewTokens: 32, stop: [], sampling };
});
const budgetBytes = 150e6;
const stored = { weightBits: 16, hostMemory: budgetBytes } as const;
const request: PolicyRequest = {
  config: model.config,
  weightType: 'float16',
  computeTier: 'cpu',
  budgetBytes,
  spillBytes: 0,
  kv: allOn('cpu'),
  contextTokens: 160,
  gpuBatchSize: 64,
  numGpuBatches: 1,
  schedule: 'continuous',
  overlap: true,
  capacityBytes: { gpu: 0, cpu: budgetBytes, disk: Number.POSITIVE_INFINITY },
  planning: undefined,
  given: {},
};

describe('the policy of a benchmark', () => {
  it('is searched for the budget where the machine is measured, and predicted', async () => {
    measured(profile);
    const planning = benchPlanning(requests)!;
    expect(planning.work).toEqual({ numSequences: 64, promptTokens: 128, newTokens: 32 });
    const policy = await planPolicy({ ...request, planning });
    checkPolicy(policy, 'cpu');
    const predicted = predictBench(planning, model, requests, policy, stored);
    expect(predicted.peakBytes.cpu).toBeLessThanOrEqual(1.000001 * budgetBytes);
    expect(predicted.generationThroughput * predicted.totalSeconds).toBeCloseTo(64 * 32, 6);
    const plain = predictBench(planning, model, requests, planMemory(request).policy, stored);
    expect(predicted.totalSeconds).toBeLessThan(plain.totalSeconds);
  });

  it('keeps to the sizes and the schedule that are asked for', async () => {
    measured(profile);
    const given = { gpuBatchSize: 7, numGpuBatches: 2, schedule: 'block' } as const;
    expect(await planPolicy({ ...request, planning: benchPlanning(requests), given })).toMatchObject(given);
  });

  it('is left to the memory plan where the machine is not measured', async () => {
    expect(benchPlanning(requests)).toBeUndefined();
    const prefixBytes = Math.floor(0.04 * request.budgetBytes);
    const { policy } = planMemory({ ...request, budgetBytes: request.budgetBytes - prefixBytes });
    expect(await planPolicy(request)).toEqual({ ...policy, prefixBytes });
  });

  it('keeps no room for common beginnings where the rest needs all', async () => {
    const least = (budgetBytes: number): number => {
      try {
        planMemory({ ...request, budgetBytes });
        return budgetBytes;
      } catch (error) {
        return least(Number((error as EngineError).details.needBytes));
      }
    };
    const budgetBytes = least(1);
    expect(await planPolicy({ ...request, budgetBytes })).toMatchObject({ prefixBytes: 0 });
  });
});

describe("this machine's profile", () => {
  it('is refused once the hardware has changed', () => {
    measured({ ...profile, machine: { ...machineIdentity(), cores: 1000 } });
    expect(() => findHardware(undefined)).toThrow('run zigzag doctor');
  });

  it('holds where there is less memory, as in a container, with room for less', () => {
    const machine = machineIdentity();
    const cpu = usableBytes(machine.memoryBytes);
    measured({ ...profile, machine: { ...machine, memoryBytes: 4 * machine.memoryBytes } });
    expect(findHardware(undefined)).toEqual({ ...profile, machine, capacityBytes: { ...profile.capacityBytes, cpu } });
  });
});
