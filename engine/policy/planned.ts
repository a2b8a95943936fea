/** The policy for a budget: the searched one where machine and work are known, else the memory plan's. */
import { EngineError } from '../errors.js';
import type { TierName } from '../memory/tier.js';
import type { HardwareProfile } from './hardware.js';
import { type MemoryRequest, planMemory } from './memory-plan.js';
import type { Policy, PolicySizes } from './policy.js';
import type { Workload } from './workload.js';

/** What a search needs beside the model and the budget. */
export interface Planning {
  readonly profile: HardwareProfile;
  readonly work: Omit<Workload, 'contextTokens'>;
}

export interface PolicyRequest extends MemoryRequest {
  readonly capacityBytes: Readonly<Record<TierName, number>>;
  readonly planning: Planning | undefined;
  /** What is not free to choose. */
  readonly given: Partial<Pick<PolicySizes, 'gpuBatchSize' | 'numGpuBatches' | 'schedule'>>;
}

/** Of the tier that computes, for beginnings that sequences share. */
const PREFIX_SHARE = 0.04;

/** @throws OUT_OF_MEMORY if nothing fits, saying what would */
export async function planPolicy(request: PolicyRequest): Promise<Policy> {
  const { computeTier, budgetBytes, capacityBytes } = request;
  const prefixBytes = Number.isFinite(budgetBytes) ? Math.floor(PREFIX_SHARE * budgetBytes) : 0;
  const left = { ...capacityBytes, [computeTier]: capacityBytes[computeTier] - prefixBytes };
  try {
    return {
      ...(await planRest({ ...request, budgetBytes: budgetBytes - prefixBytes, capacityBytes: left })),
      prefixBytes,
    };
  } catch (error) {
    if (!(error instanceof EngineError && error.code === 'OUT_OF_MEMORY')) throw error;
    // Whoever has so little does without.
    return planRest(request);
  }
}

async function planRest(request: PolicyRequest): Promise<Policy> {
  const { planning, given, contextTokens, computeTier } = request;
  // Profiles of a machine with a gpu have other rates than those that the simulated one goes by.
  if (planning?.profile.computeTier !== computeTier) return planMemory(request).policy;
  // Loads the solver, which an engine without a search should not wait for.
  const [{ openSolver }, { searchPolicy }] = await Promise.all([import('./highs.js'), import('./search.js')]);
  const { config, weightType, capacityBytes, overlap } = request;
  const { gpuBatchSize, numGpuBatches, schedule } = given;
  const found = searchPolicy(
    {
      config,
      profile: planning.profile,
      workload: { ...planning.work, contextTokens },
      overlap,
      capacityBytes,
      weightTypes: [weightType],
      kvBits: [32],
      schedules: schedule === undefined ? ['continuous', 'block'] : [schedule],
      ...(gpuBatchSize !== undefined && { gpuBatchSize }),
      ...(numGpuBatches !== undefined && { numGpuBatches }),
    },
    await openSolver(),
  );
  return found.best.policy;
}
