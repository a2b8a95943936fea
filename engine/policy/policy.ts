/**
 * A policy: what is computed together, and where everything lives (FlexGen §4.3).
 */
import { EngineError } from '../errors.js';
import { type PackedType, packedRowBytes } from '../memory/packed.js';
import type { Fractions } from '../memory/placement.js';
import type { TierName } from '../memory/tier.js';

export type WeightBits = 32 | 16 | 8 | 4;
/** Of keys and values in the cache. */
export type KvBits = 32 | 16 | 8 | 4;
export type ScheduleName = 'continuous' | 'block';

export interface Policy {
  /** Sequences computed together: rows of one attention call, slots of one KV cache. */
  readonly gpuBatchSize: number;
  /** GPU batches that share one read of each layer's weights. */
  readonly numGpuBatches: number;
  readonly schedule: ScheduleName;
  /** Reads ahead while computing; false is the serial loop. */
  readonly overlap: boolean;
  /** Most rows that one GPU batch computes in a sweep: bounds the activations. */
  readonly maxRows: number;
  /** Spread newcomers evenly over sweeps, so that every sweep has work to hide its reads behind. */
  readonly paced: boolean;
  /** Where the weights that every sweep reads live. */
  readonly weights: Fractions;
  /** Where the KV cache lives, by slots: the first on the gpu, the last on disk. */
  readonly kv: Fractions;
  /** Where hidden states wait while attention computes, by rows. */
  readonly activations: Fractions;
  /** Bytes of one part of a streamed matrix, and parts in memory at a time. */
  readonly partBytes: number;
  readonly buffers: number;
  /** Most bytes of keys and values that are kept of beginnings that sequences share. */
  readonly prefixBytes: number;
}

/** What the user says of a policy's sizes. */
export type PolicySizes = Pick<Policy, 'gpuBatchSize' | 'numGpuBatches' | 'schedule' | 'overlap'>;

/** Everything on the tier that computes, nothing streams. */
export function residentPolicy(sizes: PolicySizes, computeTier: 'gpu' | 'cpu' = 'cpu'): Policy {
  return {
    ...sizes,
    maxRows: RESIDENT_MAX_ROWS,
    paced: false,
    weights: allOn(computeTier),
    kv: allOn(computeTier),
    activations: allOn(computeTier),
    partBytes: MAX_PART_BYTES,
    buffers: DEFAULT_BUFFERS,
    prefixBytes: RESIDENT_PREFIX_BYTES,
  };
}

export function allOn(tier: TierName): Fractions {
  return { gpu: 0, cpu: 0, disk: 0, [tier]: 1 };
}

/** @throws BAD_INPUT if a size is too small, fractions are no shares of one whole, or a gpu that is not there has one */
export function checkPolicy(policy: Policy, computeTier: 'gpu' | 'cpu'): void {
  for (const [name, least] of Object.entries(LEAST)) {
    const found = policy[name as keyof typeof LEAST];
    if (found >= least) continue;
    throw new EngineError('BAD_INPUT', `policy.${name}: needed at least ${least}, found ${found}`, { name, found });
  }
  for (const name of ['weights', 'kv', 'activations'] as const) {
    const { gpu, cpu, disk } = policy[name];
    const found = `policy.${name}: gpu ${gpu}, cpu ${cpu}, disk ${disk}`;
    const shares = [gpu, cpu, disk].every((share) => share >= 0 && share <= 1);
    if (!shares || Math.abs(gpu + cpu + disk - 1) > 1e-6) {
      throw new EngineError('BAD_INPUT', `${found}; each must be from 0 to 1, and together they must make 1`, { name });
    }
    if (gpu > 0 && computeTier === 'cpu') {
      throw new EngineError('BAD_INPUT', `${found}; there is no gpu here: give its share to cpu or disk`, { name });
    }
  }
}

/** Gate and up are used together, so parts need two buffers. */
const LEAST = { gpuBatchSize: 1, numGpuBatches: 1, maxRows: 1, partBytes: 1, buffers: 2, prefixBytes: 0 } as const;

/** Prompts enter in portions, so that activations stay small beside the weights. */
const RESIDENT_MAX_ROWS = 2048;
/** Thousands of tokens of a small model, hundreds of one that hardly fits. */
const RESIDENT_PREFIX_BYTES = 256 * 2 ** 20;
/** Parts in memory: enough reads under way to keep a disk busy while one part is in use. */
export const DEFAULT_BUFFERS = 8;
/** Larger parts gain nothing: a product of a few thousand rows is at full speed. */
export const MAX_PART_BYTES = 8 * 2 ** 20;
/** Of more values, those that were widened first have left the caches when their product reads them. */
const MAX_PART_VALUES = 4 * 2 ** 20;

/** Of one part of a matrix, whether it streams or stays. */
export function mostPartBytes(type: PackedType): number {
  return Math.min(MAX_PART_BYTES, packedRowBytes(type, MAX_PART_VALUES));
}
