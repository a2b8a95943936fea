/**
 * A policy: what is computed together, and where everything lives (FlexGen §4.3).
 */
import type { Fractions } from '../memory/placement.js';

export type WeightBits = 32 | 16 | 8 | 4;
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
  /** Bytes of one part of a streamed matrix, and parts in memory at a time. */
  readonly partBytes: number;
  readonly buffers: number;
}

/** Everything in memory, nothing streams. */
export function residentPolicy(gpuBatchSize: number, numGpuBatches: number, schedule: ScheduleName): Policy {
  return {
    gpuBatchSize,
    numGpuBatches,
    schedule,
    overlap: true,
    maxRows: RESIDENT_MAX_ROWS,
    paced: false,
    weights: { gpu: 0, cpu: 1, disk: 0 },
    partBytes: MAX_PART_BYTES,
    buffers: DEFAULT_BUFFERS,
  };
}

/** Prompts enter in portions, so that activations stay small beside the weights. */
const RESIDENT_MAX_ROWS = 2048;
/** Parts in memory: enough reads under way to keep a disk busy while one part is in use. */
export const DEFAULT_BUFFERS = 8;
/** Larger parts gain nothing: a product of a few thousand rows is at full speed. */
export const MAX_PART_BYTES = 8 * 2 ** 20;
