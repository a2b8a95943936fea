/**
 * What a sweep of this engine costs, as quantities that are linear in the shares of a placement.
 *
 * A part of a sweep lasts as long as the longest of six things that go on at once: arithmetic on the tier that computes, attention on
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
import { DEFAULT_BUFFERS } from './policy.js';
import { type SweepGroup, sweepsOf, type Workload } from './workload.js';

export interface CostCase {
  readonly config: ModelConfig;
  readonly profile: HardwareProfile;
  readonly workload: Workload;
  readonly overlap: boolean;
}

/** Of what the engine hides behind something longer, the share that it waits for all the same. */
export const EXPOSED = 0.01;

/** Sweeps of one kind, and what the parts of each cost, one after the other. */
export interface CostedSweeps {
  readonly group: SweepGroup;
  readonly phases: readonly PhaseCosts[];
}

/** Of a sweep: the layers of the decoder, and then the vocabulary, which few rows meet and which is read no less. */
type PhaseName = 'layers' | 'head';

export interface PhaseCosts extends SweepCosts {
  /** What is computed, and of that attention. */
  readonly parts: { readonly compute: Linear; readonly attention: Linear };
}

/** The sweeps of the whole workload, of one choice of sizes. */
export function sweepCosts(study: CostCase, choice: Choice, fixed: FixedUse, perDoubling: number): CostedSweeps[] {
  return sweepsOf({ ...choice, ...fixed }, study.workload, perDoubling).map((group, i) => {
    const phases = (['layers', 'head'] as const).map((phase): PhaseCosts => {
      const { seconds, limits, parts } = costsOf(study, choice, fixed, group, phase);
      const named = { name: `${phase}${i}`, count: group.count, parts };
      // The serial loop does one thing after the other.
      return study.overlap
        ? { ...named, seconds, limits }
        : { ...named, seconds: { all: plus(...Object.values(seconds)) } };
    });
    return { group, phases };
  });
}

/** Seconds of one part of a sweep, by what they are spent on. */
function costsOf(study: CostCase, choice: Choice, fixed: FixedUse, group: SweepGroup, phase: PhaseName) {
  const { profile } = study;
  const head = headShare(study, choice, fixed);
  const moved = movedBytes(study, choice, group, head)[phase];
  const factor = factorsOf(study, choice).disk;
  const over = (link: LinkName) => times(factor / (profile.links[link]?.alone ?? 1), moved[link]);
  const parts = computeSeconds(study, choice, group, head)[phase];
  const { compute } = parts;
  const disk = { diskRead: over('diskRead'), diskWrite: over('diskWrite') };
  const limits = { disk: bothWays(profile, disk) };
  if (profile.computeTier === 'cpu') return { seconds: { compute, ...disk }, limits, parts };
  const host = { hostToDevice: over('hostToDevice'), deviceToHost: over('deviceToHost') };
  const hostCompute = phase === 'layers' ? hostSeconds(study, choice, group) : constant(0);
  return {
    seconds: { compute, hostCompute, ...host, ...disk },
    limits: { ...limits, host: bothWays(profile, host) },
    parts,
  };
}

/** Of the weights, the vocabulary's share, less what the buffers take of it while the layers are computed. */
function headShare({ config }: CostCase, { weightType }: Choice, { partBytes }: FixedUse): number {
  const head = config.vocabSize * packedRowBytes(weightType, config.embeddingSize);
  return Math.max(0, head - DEFAULT_BUFFERS * partBytes) / weightBytes(config)[weightType];
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

/** @param head of the widened weights */
function computeSeconds(study: CostCase, choice: Choice, group: SweepGroup, head: number) {
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
  const factors = factorsOf(study, choice);
  const products = (count: number, rowFlops: number, share: number) => {
    const seconds = productSeconds(rates.curves, width, count, count * rowFlops);
    return factors.products * (seconds + share * rates.widenSeconds * weightBytes(config).float32);
  };
  const calls = attentionCalls(choice, group) * profile.callSeconds;
  const beside = factors.products * config.numLayers * (besideProducts(config, profile, rows) + calls);
  const onDevice = computeTier === 'cpu' || choice.attention === 'device' ? constant(1) : share('kv', computeTier);
  const attended = times(factors.attention, plus(constant(prompts), times(cached, onDevice)));
  return {
    layers: { compute: plus(constant(products(rows, flops.row, 1 - head) + beside), attended), attention: attended },
    head: { compute: constant(products(heads, flops.head, head)), attention: constant(0) },
  };
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

export type LayerRates = Pick<HardwareProfile, 'elementsPerSecond' | 'callSeconds'>;

/** Seconds of a layer beside its products and its attention. */
export function besideProducts(config: ModelConfig, rates: LayerRates, rows: number): number {
  return (rows * activationRowBytes(config)) / (4 * rates.elementsPerSecond) + STEPS_OF_LAYER * rates.callSeconds;
}

/** Kernels of a layer's attention: by GPU batch and by prompt. */
function attentionCalls({ numGpuBatches }: Choice, { newcomers }: SweepGroup): number {
  return numGpuBatches + newcomers;
}

/** Two norms, four products, a rotation and two sums. */
const STEPS_OF_LAYER = 9;

/**
 * Bytes that each part of a sweep moves over each link.
 *
 * @param head of the weights
 */
function movedBytes({ config, profile }: CostCase, choice: Choice, group: SweepGroup, head: number) {
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
  const ofHead = {
    diskRead: times(head * weights, share('weights', 'disk')),
    diskWrite: constant(0),
    hostToDevice: constant(0),
    deviceToHost: constant(0),
  };
  const disk = {
    diskRead: plus(
      constant(embedded),
      times((1 - head) * weights, share('weights', 'disk')),
      times(cached, share('kv', 'disk')),
      times(hidden, share('activations', 'disk')),
    ),
    diskWrite: plus(times(written, share('kv', 'disk')), times(hidden, share('activations', 'disk'))),
  };
  if (computeTier === 'cpu') {
    return { layers: { ...disk, hostToDevice: constant(0), deviceToHost: constant(0) }, head: ofHead };
  }
  const parked = times(hidden, elsewhere('activations', 'gpu'));
  const crossing = 4 * decodeRows * config.numLayers;
  const [queries, attended] = [queryKeySize(config) + valueSize(config), config.numHeads * config.headDim];
  const kvUp =
    choice.attention === 'device'
      ? times(cached, elsewhere('kv', 'gpu'))
      : times(crossing * attended, elsewhere('kv', 'gpu'));
  const asked = choice.attention === 'device' ? constant(0) : times(crossing * queries, elsewhere('kv', 'gpu'));
  const away = elsewhere('weights', 'gpu');
  return {
    layers: {
      ...disk,
      hostToDevice: plus(constant(embedded), times((1 - head) * weights, away), kvUp, parked),
      deviceToHost: plus(times(written, elsewhere('kv', 'gpu')), asked, parked),
    },
    head: { ...ofHead, hostToDevice: times(head * weights, away) },
  };
}
