/**
 * What a sweep of this engine costs, as quantities that are linear in the shares of a placement.
 *
 * A sweep lasts as long as the longest of six things that go on at once: arithmetic on the tier that computes, attention on
 * the cpu beside it, both directions between the two, reading and writing the disk. Unlike in the paper's model, all rows of a
 * sweep share one use of each layer's weights, prompts and decoding share sweeps, only rows that somebody asked for are
 * computed, and rates depend on rows.
 */
import { runFlops } from '../bound.js';
import { blocksFor, kvSlotBytes, slotBytes } from '../memory/kv-layout.js';
import { packedRowBytes } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import {
  betweenWidths,
  curveSeconds,
  type HardwareProfile,
  type LinkName,
  productSeconds,
  type Rehearsal,
} from './hardware.js';
import { constant, type Linear, plus, times } from './linear-program.js';
import { activationRowBytes } from './memory-plan.js';
import { type Choice, elsewhere, type FixedUse, kvScale, perModel, weightBytes } from './memory-use.js';
import { type SweepCosts, share } from './placement-program.js';
import { type SweepGroup, sweepsOf, type Workload } from './workload.js';

export interface CostCase {
  readonly config: ModelConfig;
  readonly profile: HardwareProfile;
  readonly workload: Workload;
  readonly overlap: boolean;
}

/** Of what the engine hides behind something longer, the share that it waits for all the same. */
export const EXPOSED = 0.01;

/** The sweeps of the whole workload, of one choice of sizes. */
export function sweepCosts(study: CostCase, choice: Choice, fixed: FixedUse, perDoubling: number): SweepCosts[] {
  return sweepsOf({ ...choice, ...fixed }, study.workload, perDoubling).map((group, i) => {
    const { seconds, limits, parts } = costsOf(study, choice, group);
    const named = { name: `sweep${i}`, count: group.count, parts };
    // The serial loop does one thing after the other.
    return study.overlap
      ? { ...named, seconds, limits }
      : { ...named, seconds: { all: plus(...Object.values(seconds)) } };
  });
}

/** Seconds of one sweep, by what they are spent on. */
function costsOf(study: CostCase, choice: Choice, group: SweepGroup): Required<Omit<SweepCosts, 'name' | 'count'>> {
  const { profile } = study;
  const moved = movedBytes(study, choice, group);
  const factor = factorsOf(study, choice).disk;
  const over = (link: LinkName) => times(factor / (profile.links[link]?.alone ?? 1), moved[link]);
  const { compute, attention } = computeSeconds(study, choice, group);
  const parts = { compute, attention };
  const disk = { diskRead: over('diskRead'), diskWrite: over('diskWrite') };
  const limits = { disk: bothWays(profile, disk) };
  if (profile.computeTier === 'cpu') return { seconds: { compute, ...disk }, limits, parts };
  const host = { hostToDevice: over('hostToDevice'), deviceToHost: over('deviceToHost') };
  return {
    seconds: { compute, hostCompute: hostSeconds(study, choice, group), ...host, ...disk },
    limits: { ...limits, host: bothWays(profile, host) },
    parts,
  };
}

/** Of two directions of a link at once, whose rates together may be below the sum of both alone. */
function bothWays({ links }: HardwareProfile, seconds: Readonly<Partial<Record<LinkName, Linear>>>): Linear {
  const names = Object.keys(seconds) as LinkName[];
  const together = names.reduce((sum, name) => sum + links[name]!.together / links[name]!.alone, 0);
  return times(1 / together, plus(...Object.values(seconds)));
}

/** FLOPs of a row without attention, of a row's logits, and of a prompt's attention: by the formula that bounds are computed with. */
const rowFlops = perModel((config: ModelConfig) => {
  const flops = (promptTokens: number, generatedTokens: number) =>
    runFlops(config, [{ promptTokens, generatedTokens }]);
  // A row alone sees itself: scores and weighted sum of one pair, on all layers.
  const row = flops(1, 0) - 4 * config.numLayers * config.numHeads * config.headDim;
  const known = new Map<number, number>();
  const attention = (prompt: number) => {
    const found = known.get(prompt) ?? flops(prompt, 0) - prompt * row;
    known.set(prompt, found);
    return found;
  };
  return { row, head: flops(1, 1) - flops(1, 0), attention };
});

function computeSeconds(study: CostCase, choice: Choice, group: SweepGroup) {
  const { config, profile, workload } = study;
  const { computeTier, attention } = profile;
  const { promptRows, decodeRows, newcomers } = group;
  const rows = promptRows + decodeRows;
  const heads = decodeRows + newcomers;
  const flops = rowFlops(config);
  const rates = ratesOf(profile, choice);
  const [width, prompt] = [config.hiddenSize, workload.promptTokens];
  const cached = attentionSeconds(study, choice, group, computeTier);
  const prompts = newcomers * curveSeconds(attention.prompt, prompt, flops.attention(prompt));
  const fixed =
    productSeconds(rates.curves, width, rows, rows * flops.row) +
    productSeconds(rates.curves, width, heads, heads * flops.head) +
    rates.widenSeconds * weightBytes(config).float32 +
    (rows * config.numLayers * activationRowBytes(config)) / (4 * profile.elementsPerSecond) +
    callsOf(study, choice, group) * profile.callSeconds;
  const factors = factorsOf(study, choice);
  const onDevice = computeTier === 'cpu' || choice.attention === 'device' ? constant(1) : share('kv', computeTier);
  const attended = times(factors.attention, plus(constant(prompts), times(cached, onDevice)));
  return { compute: plus(constant(factors.products * fixed), attended), attention: attended };
}

/** Of time: what the engine takes beside its parts, and what runs took beside that. */
function factorsOf({ config, profile: { rehearsed, refined } }: CostCase, { resident, weightType }: Choice) {
  const found = (of: (rehearsal: Rehearsal) => number | undefined) =>
    rehearsed ? betweenWidths(rehearsed, config.hiddenSize, (rehearsal) => of(rehearsal) ?? 1) : 1;
  const compute = refined?.computeFactor ?? 1;
  return {
    products: compute * found(({ resident: factor, streamed }) => (resident ? factor : streamed[weightType])),
    attention: compute * found(({ attention }) => attention),
    disk: (refined?.ioFactor ?? 1) * found(({ disk }) => disk),
  };
}

/** Attention on the cpu beside a device, of what lives off the device. */
function hostSeconds(study: CostCase, choice: Choice, group: SweepGroup): Linear {
  if (choice.attention === 'device') return constant(0);
  return times(attentionSeconds(study, choice, group, 'cpu'), elsewhere('kv', 'gpu'));
}

/** Of all that is cached, on one tier. Compressed keys and values are read at the same rate, in fewer bytes. */
function attentionSeconds(
  { config, profile }: CostCase,
  choice: Choice,
  group: SweepGroup,
  tier: 'gpu' | 'cpu',
): number {
  const rate = profile.attention.cacheBytesPerSecond[tier] ?? profile.attention.cacheBytesPerSecond.cpu!;
  return (kvScale(config, choice.kvBits) * group.cachedBlocks * kvSlotBytes(config, 1)) / rate;
}

/** The curves of a form of weights, or those of the nearest wider form and what widening to it takes. */
function ratesOf(profile: HardwareProfile, { weightType }: Choice) {
  const { products, dequantizeValuesPerSecond } = profile;
  const own = products[weightType];
  if (own) return { curves: own, widenSeconds: 0 };
  const rate = dequantizeValuesPerSecond?.[weightType];
  // Values of float32 have four bytes.
  return { curves: (products.float16 ?? products.float32)!, widenSeconds: rate === undefined ? 0 : 1 / (4 * rate) };
}

/** Kernels of a sweep: steps of a layer and parts of streamed matrices, attention by GPU batch and by prompt. */
function callsOf({ config }: CostCase, { numGpuBatches }: Choice, { newcomers }: SweepGroup): number {
  return config.numLayers * (STEPS_OF_LAYER + numGpuBatches + newcomers);
}

/** Two norms, four products, a rotation and two sums. */
const STEPS_OF_LAYER = 9;

/** Bytes that a sweep moves over each link. */
function movedBytes({ config, profile }: CostCase, choice: Choice, group: SweepGroup): Record<LinkName, Linear> {
  const { computeTier } = profile;
  const { promptRows, decodeRows, newcomers, cachedBlocks } = group;
  const rows = promptRows + decodeRows;
  const scale = kvScale(config, choice.kvBits);
  const weights = weightBytes(config)[choice.weightType];
  const cached = scale * cachedBlocks * kvSlotBytes(config, 1);
  // A row that is written takes its block with it.
  const blocks = decodeRows + newcomers * blocksFor(promptRows / Math.max(1, newcomers));
  const written = scale * blocks * 2 * slotBytes(config) * config.numLayers;
  const hidden = rows * config.numLayers * config.hiddenSize * 4;
  const embedded = rows * packedRowBytes(choice.weightType, config.embeddingSize);
  const disk = {
    diskRead: plus(
      constant(embedded),
      times(weights, share('weights', 'disk')),
      times(cached, share('kv', 'disk')),
      times(hidden, share('activations', 'disk')),
    ),
    diskWrite: plus(times(written, share('kv', 'disk')), times(hidden, share('activations', 'disk'))),
  };
  if (computeTier === 'cpu') return { ...disk, hostToDevice: constant(0), deviceToHost: constant(0) };
  const parked = times(hidden, elsewhere('activations', 'gpu'));
  const crossing = 4 * decodeRows * config.numLayers;
  const [queries, attended] = [queryKeySize(config) + valueSize(config), config.numHeads * config.headDim];
  const kvUp =
    choice.attention === 'device'
      ? times(cached, elsewhere('kv', 'gpu'))
      : times(crossing * attended, elsewhere('kv', 'gpu'));
  const asked = choice.attention === 'device' ? constant(0) : times(crossing * queries, elsewhere('kv', 'gpu'));
  return {
    ...disk,
    hostToDevice: plus(constant(embedded), times(weights, elsewhere('weights', 'gpu')), kvUp, parked),
    deviceToHost: plus(times(written, elsewhere('kv', 'gpu')), asked, parked),
  };
}
