/** What a benchmark's policy is searched by, where this machine is measured, and what is predicted of the policy that ran. */
import { type Prediction, predictPolicy, weightTypeOf } from '../engine/policy/plan.js';
import type { Planning } from '../engine/policy/planned.js';
import type { Policy, WeightBits } from '../engine/policy/policy.js';
import type { GenerateRequest } from '../engine/requests.js';
import type { BenchModel } from './bench-model.js';
import { longestOf } from './bench-work.js';
import { keptHardware } from './hardware.js';

/** @returns undefined where this machine is not measured, or has changed since */
export function benchPlanning(requests: readonly GenerateRequest[]): Planning | undefined {
  const profile = keptHardware();
  if (!profile) return undefined;
  const mean = (value: (request: GenerateRequest) => number) =>
    requests.reduce((sum, request) => sum + value(request), 0) / requests.length;
  return {
    profile,
    work: {
      numSequences: requests.length,
      promptTokens: mean(({ prompt }) => prompt.length),
      newTokens: mean(({ maxNewTokens }) => maxNewTokens),
    },
  };
}

export function predictBench(
  { profile, work }: Planning,
  { config }: BenchModel,
  requests: readonly GenerateRequest[],
  policy: Policy,
  { weightBits, hostMemory }: { readonly weightBits: WeightBits; readonly hostMemory: number | undefined },
): Prediction {
  const study = {
    config,
    profile,
    workload: { ...work, contextTokens: longestOf(requests) },
    overlap: policy.overlap,
    capacityBytes: { gpu: 0, cpu: hostMemory ?? Number.POSITIVE_INFINITY, disk: Number.POSITIVE_INFINITY },
  };
  return predictPolicy(study, policy, weightTypeOf(weightBits));
}
