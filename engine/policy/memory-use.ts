/**
 * What each tier must hold, as a quantity that is linear in the shares: made of the functions by which the engine itself
 * plans, places and accounts, so that what is planned for fits.
 */
import { blocksFor, kvSlotBytes, slotBytes } from '../memory/kv-layout.js';
import { stagedBlockBytes } from '../memory/kv-staging.js';
import type { PackedType } from '../memory/packed.js';
import type { TierName } from '../memory/tier.js';
import type { ModelConfig } from '../model/config.js';
import { packedTypes, planStore, type StoreFormat } from '../model/store.js';
import { constant, type Linear, plus, times } from './linear-program.js';
import { planMemory, streamBufferBytes, streamedBytes, streamedParts } from './memory-plan.js';
import { perModel } from './per-model.js';
import { share, type TierUse } from './placement-program.js';
import { allOn, type KvBits, type Policy, type ScheduleName } from './policy.js';

/** Everything that is chosen beside the shares. */
export interface Choice {
  readonly gpuBatchSize: number;
  readonly numGpuBatches: number;
  readonly schedule: ScheduleName;
  readonly weightType: PackedType;
  readonly kvBits: KvBits;
  /** Where keys and values that live off the device are attended: there, or brought to it. */
  readonly attention: 'cpu' | 'device';
  /** All weights on the tier that computes: nothing streams, and no buffers are needed. */
  readonly resident: boolean;
}

export interface MemoryCase {
  readonly config: ModelConfig;
  readonly computeTier: 'gpu' | 'cpu';
  readonly capacityBytes: Readonly<Record<TierName, number>>;
  readonly contextTokens: number;
}

/** What does not depend on the shares. */
export interface FixedUse extends Pick<Policy, 'partBytes' | 'maxRows' | 'paced'> {
  /** Of matrices, where all of them stream. */
  readonly parts: number;
  /** Activations, workspace, vectors and buffers on the tier that computes. */
  readonly bytes: number;
}

/** @throws OUT_OF_MEMORY if the tier that computes holds less than one sequence and the buffers to stream through */
export function fixedUse(study: MemoryCase, choice: Choice): FixedUse {
  const request = {
    ...study,
    ...choice,
    overlap: true,
    kv: allOn(choice.attention === 'cpu' ? 'cpu' : study.computeTier),
    spillBytes: Number.POSITIVE_INFINITY,
  };
  const budgetBytes = study.capacityBytes[study.computeTier];
  const least = planMemory({ ...request, budgetBytes, gpuBatchSize: 1, numGpuBatches: 1 });
  const { bytes, policy } = planMemory({ ...request, budgetBytes: Number.POSITIVE_INFINITY });
  const { partBytes } = least.policy;
  const buffers = choice.resident ? 0 : streamBufferBytes(study.config, partBytes);
  return {
    partBytes,
    parts: streamedParts(study.config, choice.weightType, partBytes),
    maxRows: policy.maxRows,
    paced: !choice.resident && choice.schedule === 'continuous',
    bytes: bytes.activations + least.bytes.workspace + least.bytes.fixed + buffers,
  };
}

export function tierUses(study: MemoryCase, choice: Choice, fixed: FixedUse): TierUse[] {
  const { config, computeTier, capacityBytes } = study;
  const store = storeBytes(config)[choice.weightType];
  const uses: Record<TierName, Linear[]> = { gpu: [], cpu: [], disk: [constant(store)] };
  uses[computeTier].push(constant(fixed.bytes));
  if (computeTier === 'cpu') uses.gpu.push(constant(0));
  for (const tier of ['gpu', 'cpu'] as const) {
    uses[tier].push(times(weightBytes(config)[choice.weightType], share('weights', tier)));
  }
  const kv = kvBytes(study, choice);
  for (const tier of ['gpu', 'cpu', 'disk'] as const) {
    uses[tier].push(times(kv.home, share('kv', tier)));
    // The tier that computes holds all hidden states; those that wait elsewhere are there besides.
    if (tier !== computeTier) uses[tier].push(times(hiddenBytes(study, choice, fixed), share('activations', tier)));
  }
  if (choice.attention === 'device') uses[computeTier].push(times(kv.staged, elsewhere('kv', computeTier)));
  return (['gpu', 'cpu', 'disk'] as const).map((tier): TierUse => {
    return { tier, bytes: plus(...uses[tier]), capacityBytes: capacityBytes[tier] };
  });
}

/** The shares on the tiers that do not compute. */
export function elsewhere(placed: 'weights' | 'kv' | 'activations', computeTier: TierName): Linear {
  const others = (['gpu', 'cpu', 'disk'] as const).filter((tier) => tier !== computeTier);
  return plus(...others.map((tier) => share(placed, tier)));
}

/** Bytes of keys and values beside those that the model is opened with. */
export function kvScale(config: ModelConfig, bits: KvBits): number {
  return bits === 32 ? 1 : slotBytes({ ...config, kv: { bits } }) / slotBytes(config);
}

function kvBytes({ config, contextTokens }: MemoryCase, { gpuBatchSize, numGpuBatches, kvBits }: Choice) {
  const scale = kvScale(config, kvBits);
  return {
    home: scale * numGpuBatches * gpuBatchSize * kvSlotBytes(config, contextTokens),
    staged: scale * blocksFor(contextTokens) * stagedBlockBytes(config, gpuBatchSize),
  };
}

/** Of the rows of a sweep. */
function hiddenBytes({ config }: MemoryCase, { numGpuBatches }: Choice, { maxRows }: FixedUse): number {
  return maxRows * numGpuBatches * config.hiddenSize * Float32Array.BYTES_PER_ELEMENT;
}

/** Of what every sweep reads, by form. */
export const weightBytes = perModel((config) => byType((type) => streamedBytes(config, type)));

/** Of the whole offload store, by form. */
const storeBytes = perModel((config) => {
  const formats = Object.keys(packedTypes) as StoreFormat[];
  return byType((type) => planStore(config, formats.find((format) => packedTypes[format] === type)!).bytes);
});

function byType(bytesOf: (type: PackedType) => number): Readonly<Record<PackedType, number>> {
  const [float32, float16, int8, int4] = [bytesOf('float32'), bytesOf('float16'), bytesOf('int8'), bytesOf('int4')];
  return { float32, float16, int8, int4 };
}
