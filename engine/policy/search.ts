/**
 * The policy search (FlexGen §4.3): sizes, schedule, bits and the place of attention are enumerated, and the placement for each
 * is a linear program. A coarse grid comes first; from its best the search climbs, one change at a time, until none helps.
 */
import { EngineError } from '../errors.js';
import type { PackedType } from '../memory/packed.js';
import type { TierName } from '../memory/tier.js';
import type { Solve } from './linear-program.js';
import { type Choice, fixedUse } from './memory-use.js';
import { neededBytes } from './placement-program.js';
import { memoryCase, type Plan, type PlanCase, planChoice, problemOf, rankChoice } from './plan.js';
import type { KvBits, ScheduleName } from './policy.js';

export interface SearchRequest extends PlanCase {
  /** What may be chosen; of one, there is no choice. */
  readonly weightTypes: readonly PackedType[];
  readonly kvBits: readonly KvBits[];
  readonly schedules: readonly ScheduleName[];
  /** What else to compare with, beside the neighbours of what was chosen. */
  readonly otherWeightTypes?: readonly PackedType[];
  readonly otherKvBits?: readonly KvBits[];
  readonly gpuBatchSize?: number;
  readonly numGpuBatches?: number;
}

/** The best that can be had with one thing chosen otherwise. */
export interface Alternative {
  readonly field: keyof Choice;
  readonly value: Choice[keyof Choice];
  /** Undefined where it does not fit. */
  readonly plan: Plan | undefined;
}

export interface SearchResult {
  readonly best: Plan;
  readonly alternatives: readonly Alternative[];
  readonly searchSeconds: number;
}

const GPU_BATCH_SIZES = [1, 4, 16, 64, 256];
const NUM_GPU_BATCHES = [1, 4, 16];
/** Times this close are a tie; then less memory wins. */
const TIE = 1e-3;

/** Choices that are planned exactly, of those that were ranked. */
const PLANNED = 16;
const PLANNED_ALTERNATIVES = 3;

/** @throws OUT_OF_MEMORY if nothing fits, saying what binds and what would make it fit */
export function searchPolicy(request: SearchRequest, solve: Solve): SearchResult {
  const start = performance.now();
  const rank = rankings(request, solve);
  const tried = grid(request).map(rank).filter(isRanked);
  if (tried.length === 0) throw infeasible(request, solve);
  const fastest = tried.reduce((best, one) => (one.seconds < best.seconds ? one : best));
  let best = bestPlan(request, [...tried, ...climb(request, fastest, rank, [])], solve, PLANNED);
  for (let left = MOST_RESTARTS; best; left--) {
    const chosen: Plan = best;
    const alternatives = alternativesTo(request, chosen.choice).map(({ field, value }): Alternative => {
      const changed = rank({ ...chosen.choice, [field]: value });
      const near = changed ? climb(request, changed, rank, [field]) : [];
      return { field, value, plan: bestPlan(request, near, solve, PLANNED_ALTERNATIVES) };
    });
    // Ranks are of placements before whole sequences have a home, so the climb may have passed a better plan by.
    best = alternatives
      .map(({ plan }) => plan)
      .find((plan) => plan && mayChoose(request, plan) && isFaster(plan, chosen));
    if (best && left > 0) continue;
    return { best: chosen, alternatives, searchSeconds: (performance.now() - start) / 1000 };
  }
  throw infeasible(request, solve);
}

const MOST_RESTARTS = 3;

function mayChoose({ weightTypes, kvBits, schedules, ...given }: SearchRequest, { choice }: Plan): boolean {
  const isGiven = (field: 'gpuBatchSize' | 'numGpuBatches') => (given[field] ?? choice[field]) === choice[field];
  return (
    weightTypes.includes(choice.weightType) &&
    kvBits.includes(choice.kvBits) &&
    schedules.includes(choice.schedule) &&
    isGiven('gpuBatchSize') &&
    isGiven('numGpuBatches')
  );
}

function isFaster(plan: Plan, than: Plan): boolean {
  return plan.predicted.totalSeconds < (1 - TIE) * than.predicted.totalSeconds;
}

interface Ranked {
  readonly choice: Choice;
  /** Of its best placement, before whole sequences have a home: a plan takes as long or longer. */
  readonly seconds: number;
}

type Rank = (choice: Choice) => Ranked | undefined;

/** Each choice is ranked once. */
function rankings(request: SearchRequest, solve: Solve): Rank {
  const known = new Map<string, Ranked | undefined>();
  return (choice) => {
    const key = JSON.stringify(choice);
    if (!known.has(key)) {
      const seconds = fits(request, choice) ? rankChoice(request, choice, solve) : undefined;
      known.set(key, seconds === undefined ? undefined : { choice, seconds });
    }
    return known.get(key);
  };
}

function isRanked(ranked: Ranked | undefined): ranked is Ranked {
  return ranked !== undefined;
}

/** Plans them from the fastest on: so many and until one fits, or until no other can be faster than the best that was planned. */
function bestPlan(request: SearchRequest, ranked: readonly Ranked[], solve: Solve, most: number): Plan | undefined {
  let best: Plan | undefined;
  const order = [...new Set(ranked)].sort((a, b) => a.seconds - b.seconds);
  for (const [i, { choice, seconds }] of order.entries()) {
    if (best && (i >= most || seconds > (1 + TIE) * best.predicted.totalSeconds)) break;
    const plan = planChoice(request, choice, solve);
    if (plan && (!best || isBetter(plan, best))) best = plan;
  }
  return best;
}

function isBetter(plan: Plan, than: Plan): boolean {
  const ratio = plan.predicted.totalSeconds / than.predicted.totalSeconds;
  if (Math.abs(ratio - 1) > TIE) return ratio < 1;
  const held = ({ predicted: { peakBytes } }: Plan) => peakBytes.gpu + peakBytes.cpu;
  return held(plan) < held(than);
}

/** No more places than sequences, unless they are given. */
function fits(request: SearchRequest, { gpuBatchSize, numGpuBatches }: Choice): boolean {
  const wanted = (request.gpuBatchSize ?? 1) * (request.numGpuBatches ?? 1);
  return gpuBatchSize * numGpuBatches <= Math.max(request.workload.numSequences, wanted, numGpuBatches);
}

function grid(request: SearchRequest): Choice[] {
  const { numSequences } = request.workload;
  const sizes = request.gpuBatchSize ? [request.gpuBatchSize] : withMost(GPU_BATCH_SIZES, numSequences);
  const counts = request.numGpuBatches ? [request.numGpuBatches] : countsOf(request);
  return request.weightTypes.flatMap((weightType) =>
    request.kvBits.flatMap((kvBits) =>
      request.schedules.flatMap((schedule) =>
        attentionsOf(request).flatMap((attention) =>
          [true, false].flatMap((resident) =>
            sizes.flatMap((gpuBatchSize) =>
              counts.map((numGpuBatches): Choice => {
                return { gpuBatchSize, numGpuBatches, schedule, weightType, kvBits, attention, resident };
              }),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Where the cpu computes, one GPU batch has all rows of a sweep already; several are for the staging of a device. */
function countsOf({ profile }: SearchRequest): readonly number[] {
  return profile.computeTier === 'gpu' ? NUM_GPU_BATCHES : [1];
}

function attentionsOf({ profile }: SearchRequest): readonly Choice['attention'][] {
  return profile.computeTier === 'gpu' ? ['device', 'cpu'] : ['device'];
}

/** Those below the number of sequences, and that. */
function withMost(sizes: readonly number[], most: number): number[] {
  return [...new Set([...sizes.filter((size) => size < most), Math.min(most, sizes.at(-1)!)])];
}

/**
 * @param pinned fields that stay as they are
 * @returns all that it came by
 */
function climb(request: SearchRequest, from: Ranked, rank: Rank, pinned: readonly (keyof Choice)[]): Ranked[] {
  const seen = [from];
  for (let top = from; ; ) {
    const near = neighbours(request, top.choice, pinned).map(rank).filter(isRanked);
    seen.push(...near);
    const next = near.reduce((best, one) => (one.seconds < best.seconds ? one : best), top);
    if (next.seconds > (1 - TIE) * top.seconds) return seen;
    top = next;
  }
}

function neighbours(request: SearchRequest, choice: Choice, pinned: readonly (keyof Choice)[]): Choice[] {
  const { gpuBatchSize, numGpuBatches } = choice;
  const values: { [Field in keyof Choice]: readonly Choice[Field][] } = {
    gpuBatchSize: request.gpuBatchSize ? [] : stepsFrom(gpuBatchSize),
    numGpuBatches: request.numGpuBatches ? [] : stepsFrom(numGpuBatches),
    schedule: request.schedules,
    weightType: request.weightTypes,
    kvBits: request.kvBits,
    attention: attentionsOf(request),
    resident: [true, false],
  };
  const fields = (Object.keys(values) as (keyof Choice)[]).filter((field) => !pinned.includes(field));
  return fields
    .flatMap((field) => values[field].map((value): Choice => ({ ...choice, [field]: value })))
    .filter((other) => JSON.stringify(other) !== JSON.stringify(choice));
}

/** A half and twice as much, a fifth more and less, and one. */
function stepsFrom(size: number): number[] {
  const sizes = [size / 2, size / 1.2, size - 1, size + 1, size * 1.2, size * 2].map(Math.round);
  return [...new Set(sizes)].filter((other) => other >= 1 && other !== size);
}

function alternativesTo(
  request: SearchRequest,
  choice: Choice,
): { field: keyof Choice; value: Choice[keyof Choice] }[] {
  const { gpuBatchSize, numGpuBatches } = choice;
  const values: { [Field in keyof Choice]?: readonly Choice[Field][] } = {
    gpuBatchSize: [Math.max(1, Math.round(gpuBatchSize / 2)), 2 * gpuBatchSize],
    numGpuBatches: [Math.max(1, Math.round(numGpuBatches / 2)), 2 * numGpuBatches],
    schedule: ['continuous', 'block'],
    attention: attentionsOf(request),
    weightType: [...request.weightTypes, ...(request.otherWeightTypes ?? [])],
    kvBits: [...request.kvBits, ...(request.otherKvBits ?? [])],
  };
  return (Object.keys(values) as (keyof Choice)[]).flatMap((field) =>
    [...new Set<Choice[keyof Choice]>(values[field])]
      .filter((value) => value !== choice[field])
      .map((value) => ({ field, value })),
  );
}

const OPTIONS: Readonly<Record<TierName, string>> = {
  gpu: '--device-memory',
  cpu: '--host-memory',
  disk: '--disk-memory',
};

/** What binds the smallest choice there is. */
function infeasible(request: SearchRequest, solve: Solve): EngineError {
  const smallest = grid({ ...request, gpuBatchSize: request.gpuBatchSize ?? 1, numGpuBatches: 1 }).filter(
    ({ resident }) => !resident,
  );
  const tiers = request.profile.computeTier === 'gpu' ? (['gpu', 'cpu', 'disk'] as const) : (['cpu', 'disk'] as const);
  let found: { tier: TierName; bytes: number } | undefined;
  for (const tier of tiers) {
    for (const choice of smallest) {
      const problem = problemOf(request, choice, fixedUse(memoryCase(request), choice));
      const bytes = neededBytes(problem, tier, solve);
      if (bytes !== undefined && (!found || bytes < found.bytes)) found = { tier, bytes };
    }
  }
  const { capacityBytes } = request;
  if (!found) {
    const budgets = tiers.map((tier) => `${tier} ${capacityBytes[tier]} B`).join(', ');
    const message = `the model fits on no one tier's account: the budgets are ${budgets}; raise two of them, or store weights in fewer bits`;
    return new EngineError('OUT_OF_MEMORY', message, { capacityBytes });
  }
  const needBytes = Math.ceil(found.bytes);
  return new EngineError(
    'OUT_OF_MEMORY',
    `${found.tier} tier: with the smallest batch the model needs ${needBytes} B, and the budget is ` +
      `${capacityBytes[found.tier]} B; ${OPTIONS[found.tier]} ${needBytes} would make it fit`,
    { tier: found.tier, needBytes, capacityBytes: capacityBytes[found.tier] },
  );
}
