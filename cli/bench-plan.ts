/** The policy that a benchmark runs by, where this machine is measured, and what is predicted of a policy. */
import { existsSync } from 'node:fs';
import type { PackedType } from '../engine/memory/packed.js';
import type { TierName } from '../engine/memory/tier.js';
import { openSolver } from '../engine/policy/highs.js';
import { type PlanCase, type Prediction, predictPolicy } from '../engine/policy/plan.js';
import type { Policy, PolicySizes, WeightBits } from '../engine/policy/policy.js';
import { searchPolicy } from '../engine/policy/search.js';
import type { Workload } from '../engine/policy/workload.js';
import type { GenerateRequest } from '../engine/requests.js';
import type { BenchModel } from './bench-model.js';
import { longestOf } from './bench-work.js';
import { findHardware, measuredPath } from './hardware.js';

export interface BenchPlanOptions extends Partial<PolicySizes> {
  readonly overlap: boolean;
  readonly weightBits: WeightBits;
  readonly hostMemory: number | undefined;
  readonly diskMemory: number | undefined;
}

export interface BenchPlanner {
  /** The best policy that there is for the budget. @throws OUT_OF_MEMORY if none fits */
  search(): Promise<Policy>;
  predict(policy: Policy): Prediction;
}

/** @returns undefined where this machine is not measured */
export function openPlanner(
  { config }: BenchModel,
  requests: readonly GenerateRequest[],
  options: BenchPlanOptions,
): BenchPlanner | undefined {
  if (!existsSync(measuredPath())) return undefined;
  const { overlap, weightBits, hostMemory, diskMemory, gpuBatchSize, numGpuBatches, schedule } = options;
  const profile = findHardware(undefined);
  const capacityBytes: Record<TierName, number> = {
    gpu: 0,
    cpu: hostMemory ?? profile.capacityBytes.cpu,
    disk: diskMemory ?? profile.capacityBytes.disk,
  };
  const study: PlanCase = { config, profile, workload: workloadOf(requests), overlap, capacityBytes };
  const weightType = typeOf[weightBits];
  return {
    async search() {
      const request = {
        ...study,
        weightTypes: [weightType],
        kvBits: [32],
        schedules: schedule === undefined ? (['continuous', 'block'] as const) : [schedule],
        ...(gpuBatchSize !== undefined && { gpuBatchSize }),
        ...(numGpuBatches !== undefined && { numGpuBatches }),
      } as const;
      return searchPolicy(request, await openSolver()).best.policy;
    },
    predict: (policy) => predictPolicy(study, policy, weightType),
  };
}

const typeOf: Readonly<Record<WeightBits, PackedType>> = { 32: 'float32', 16: 'float16', 8: 'int8', 4: 'int4' };

function workloadOf(requests: readonly GenerateRequest[]): Workload {
  const mean = (value: (request: GenerateRequest) => number) =>
    requests.reduce((sum, request) => sum + value(request), 0) / requests.length;
  return {
    numSequences: requests.length,
    promptTokens: mean(({ prompt }) => prompt.length),
    newTokens: mean(({ maxNewTokens }) => maxNewTokens),
    contextTokens: longestOf(requests),
  };
}
