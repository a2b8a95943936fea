/** One choice of sizes, carried through: the best placement for it, the policy that realises it, and what to expect of it. */
import type { PackedType } from '../memory/packed.js';
import type { Fractions } from '../memory/placement.js';
import type { TierName } from '../memory/tier.js';
import { type CostCase, EXPOSED, sweepCosts } from './cost-model.js';
import { type Solve, valueAt } from './linear-program.js';
import { streamedParts } from './memory-plan.js';
import { type Choice, type FixedUse, fixedUse, type MemoryCase, tierUses, weightBytes } from './memory-use.js';
import {
  boundOf,
  fastestPlacement,
  type PlacedFractions,
  type PlacementProblem,
  solvePlacement,
  valuesOf,
} from './placement-program.js';
import { DEFAULT_BUFFERS, type Policy, type WeightBits } from './policy.js';
import type { StepSeconds } from './steps.js';

export interface PlanCase extends CostCase {
  readonly capacityBytes: Readonly<Record<TierName, number>>;
}

export interface Plan {
  readonly choice: Choice;
  readonly fractions: PlacedFractions;
  /** As the engine takes it. */
  readonly policy: Policy;
  readonly predicted: Prediction;
}

export interface Prediction {
  /** A sweep's seconds are divided by its rows of prompts and of decoding. */
  readonly prefillSeconds: number;
  readonly decodeSeconds: number;
  readonly totalSeconds: number;
  /** Generated tokens a second, prefill included. */
  readonly generationThroughput: number;
  readonly peakBytes: Readonly<Record<TierName, number>>;
  /** What most of the time is spent waiting for, and its share of the time. */
  readonly bound: string;
  readonly boundShare: number;
  readonly sweeps: number;
  readonly steps: StepSeconds;
}

/** Groups of sweeps in which rows double: enough to rank choices, and to predict one. */
const RANKING = 0.5;
const PREDICTING = 8;

/** Seconds of the best placement of a choice, or undefined where it does not fit: a quarter of the cost of a plan. */
export function rankChoice(study: PlanCase, choice: Choice, solve: Solve): number | undefined {
  if (!mayFit(study, choice)) return undefined;
  return fastestPlacement(problemOf(study, choice, fixedUse(memoryCase(study), choice)), solve)?.seconds;
}

/** @returns undefined where the tiers do not hold it */
export function planChoice(study: PlanCase, choice: Choice, solve: Solve): Plan | undefined {
  if (!mayFit(study, choice)) return undefined;
  const fixed = fixedUse(memoryCase(study), choice);
  const problem = problemOf(study, choice, fixed);
  const relaxed = fastestPlacement(problem, solve);
  if (!relaxed) return undefined;
  // Whole sequences have a home; what that leaves over goes to the weights.
  const kvs = roundings.map((round) => wholeSlots(relaxed.fractions.kv, choice.gpuBatchSize, round));
  const placed = kvs
    .filter((kv, i) => i === 0 || kv.gpu !== kvs[0]!.gpu || kv.disk !== kvs[0]!.disk)
    .map((kv) => solvePlacement({ ...problem, pinned: { ...problem.pinned, ...pinnedTo('kv', kv) } }, solve))
    .filter((rounded) => rounded !== undefined);
  if (placed.length === 0) return undefined;
  const { fractions } = placed.reduce((best, one) => (one.seconds < best.seconds ? one : best));
  return {
    choice,
    fractions,
    policy: policyOf(study, choice, fixed, fractions),
    predicted: predict(study, choice, fixed, fractions),
  };
}

/** To a faster tier, or to a slower one where that does not fit. */
const roundings = [(slots: number) => Math.ceil(slots - 1e-6), (slots: number) => Math.floor(slots + 1e-6)];

export function problemOf(study: PlanCase, choice: Choice, fixed: FixedUse): PlacementProblem {
  const { computeTier } = study.profile;
  const pinned: Record<string, number> = {};
  if (computeTier === 'cpu') for (const placed of ['weights', 'kv', 'activations']) pinned[`${placed}.gpu`] = 0;
  if (choice.resident) pinned[`weights.${computeTier}`] = 1;
  const uses = tierUses(memoryCase(study), choice, fixed);
  const sweeps = sweepCosts(study, choice, fixed, RANKING).flatMap(({ phases }) => phases);
  return { sweeps, uses, pinned, exposed: study.overlap ? EXPOSED : 0 };
}

export function memoryCase({ config, profile, capacityBytes, workload }: PlanCase): MemoryCase {
  return { config, capacityBytes, computeTier: profile.computeTier, contextTokens: workload.contextTokens };
}

/** What to expect of a placement that is given. */
export function predict(study: PlanCase, choice: Choice, fixed: FixedUse, fractions: PlacedFractions): Prediction {
  const { newTokens, numSequences } = study.workload;
  const costed = sweepCosts(study, choice, fixed, PREDICTING);
  const seconds = { prefill: 0, decode: 0 };
  const waits = new Map<string, number>();
  const values = valuesOf(fractions);
  const computed = { products: 0, attention: 0 };
  for (const { group, phases } of costed) {
    for (const phase of phases) {
      const bound = boundOf(phase, fractions, study.overlap ? EXPOSED : 0);
      const spent = phase.count * bound.seconds;
      const attention = valueAt(phase.parts.attention, values);
      computed.attention += phase.count * attention;
      computed.products += phase.count * (valueAt(phase.parts.compute, values) - attention);
      const prefill = spent * (group.promptRows / (group.promptRows + group.decodeRows));
      seconds.prefill += prefill;
      seconds.decode += spent - prefill;
      waits.set(bound.name, (waits.get(bound.name) ?? 0) + spent);
    }
  }
  const totalSeconds = seconds.prefill + seconds.decode;
  const [bound, waited] = [...waits].reduce((most, one) => (one[1] > most[1] ? one : most));
  return {
    prefillSeconds: seconds.prefill,
    decodeSeconds: seconds.decode,
    totalSeconds,
    generationThroughput: (numSequences * newTokens) / totalSeconds,
    peakBytes: peakBytes(study, choice, fixed, fractions),
    bound,
    boundShare: waited / totalSeconds,
    sweeps: costed.reduce((sum, { group }) => sum + group.count, 0),
    steps: {
      ...computed,
      waiting: Math.max(0, totalSeconds - computed.products - computed.attention),
      all: totalSeconds,
    },
  };
}

/** What to expect of a policy that is run as it is. */
export function predictPolicy(study: PlanCase, policy: Policy, weightType: PackedType): Prediction {
  const { computeTier } = study.profile;
  const choice: Choice = {
    ...policy,
    weightType,
    kvBits: 32,
    attention: 'device',
    resident: policy.weights[computeTier] === 1,
  };
  const { maxRows, paced, partBytes } = policy;
  const parts = streamedParts(study.config, weightType, partBytes);
  const fixed = { ...fixedUse(memoryCase(study), choice), maxRows, paced, partBytes, parts };
  return predict(study, choice, fixed, policy);
}

function peakBytes(study: PlanCase, choice: Choice, fixed: FixedUse, fractions: PlacedFractions) {
  const peak = { gpu: 0, cpu: 0, disk: 0 };
  for (const { tier, bytes } of tierUses(memoryCase(study), choice, fixed)) {
    peak[tier] = Math.max(peak[tier], Math.ceil(valueAt(bytes, valuesOf(fractions))));
  }
  return peak;
}

/** Spares the program where the weights alone are too much. */
function mayFit({ config, profile, capacityBytes }: PlanCase, choice: Choice): boolean {
  const { computeTier } = profile;
  if (choice.attention === 'cpu' && computeTier === 'cpu') return false;
  return !choice.resident || weightBytes(config)[choice.weightType] <= capacityBytes[computeTier];
}

function policyOf(study: PlanCase, choice: Choice, fixed: FixedUse, fractions: PlacedFractions): Policy {
  const { gpuBatchSize, numGpuBatches, schedule } = choice;
  return {
    gpuBatchSize,
    numGpuBatches,
    schedule,
    overlap: study.overlap,
    maxRows: fixed.maxRows,
    paced: fixed.paced,
    ...fractions,
    partBytes: fixed.partBytes,
    buffers: DEFAULT_BUFFERS,
    prefixBytes: 0,
  };
}

/** Shares that are whole sequences. */
function wholeSlots({ gpu, cpu }: Fractions, slots: number, round: (slots: number) => number): Fractions {
  const [onGpu, upToCpu] = [round(gpu * slots), round((gpu + cpu) * slots)];
  return { gpu: onGpu / slots, cpu: (upToCpu - onGpu) / slots, disk: (slots - upToCpu) / slots };
}

function pinnedTo(placed: string, fractions: Fractions): Record<string, number> {
  return Object.fromEntries(Object.entries(fractions).map(([tier, share]) => [`${placed}.${tier}`, share]));
}

const bitsOf: Readonly<Record<PackedType, WeightBits>> = { float32: 32, float16: 16, int8: 8, int4: 4 };

export function weightBitsOf(type: PackedType): WeightBits {
  return bitsOf[type];
}

export function weightTypeOf(bits: WeightBits): PackedType {
  return (Object.keys(bitsOf) as PackedType[]).find((type) => bitsOf[type] === bits)!;
}
