/**
 * What a sweep of this engine costs, as quantities that are linear in the shares of a placement.
 *
 * A part of a sweep lasts as long as the longest of six things that go on at once: arithmetic on the tier that computes,
 * attention on the cpu beside it, both directions between the two, reading and writing the disk. Unlike in the paper's model,
 * all rows of a sweep share one use of each layer's weights, prompts and decoding share sweeps, only rows that somebody
 * asked for are computed, and rates depend on rows.
 */
import { runFlops } from '../bound.js';
import { kvSlotBytes } from '../memory/kv-layout.js';
import type { ModelConfig } from '../model/config.js';
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
import { type Choice, elsewhere, type FixedUse, kvScale, weightBytes } from './memory-use.js';
import { headShare, laterShare, movedBytes, type PhaseName } from './moved-bytes.js';
import { perModel } from './per-model.js';
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

/** Sweeps of one kind, and what the parts of each cost, one after the other. */
export interface CostedSweeps {
  readonly group: SweepGroup;
  readonly phases: readonly PhaseCosts[];
}

export interface PhaseCosts extends SweepCosts {
  /** What is computed, and of that attention. */
  readonly parts: { readonly compute: Linear; readonly attention: Linear };
}

/** The sweeps of the whole workload, of one choice of sizes. */
export function sweepCosts(study: CostCase, choice: Choice, fixed: FixedUse, perDoubling: number): CostedSweeps[] {
  return sweepsOf({ ...choice, ...fixed }, study.workload, perDoubling).map((group, i) => {
    const costs = costsOf(study, choice, fixed, group);
    const phases = phasesOf(choice).map((phase): PhaseCosts => {
      const { seconds, limits, parts } = costs(phase);
      const named = { name: `${phase}${i}`, count: group.count, parts };
      // The serial loop does one thing after the other.
      return study.overlap
        ? { ...named, seconds, limits }
        : { ...named, seconds: { all: plus(...Object.values(seconds)) } };
    });
    return { group, phases };
  });
}

function phasesOf(choice: Choice): readonly PhaseName[] {
  return laterShare(choice) > 0 ? ['layers', 'laterBatches', 'head'] : ['layers', 'head'];
}

/** Seconds of each part of a sweep, by what they are spent on. */
function costsOf(study: CostCase, choice: Choice, fixed: FixedUse, group: SweepGroup) {
  const { config, profile } = study;
  const moved = movedBytes(config, profile.computeTier, choice, fixed, group);
  const computed = computeSeconds(study, choice, fixed, group);
  const factor = factorsOf(study).disk;
  return (phase: PhaseName) => {
    const over = (link: LinkName) => times(factor / (profile.links[link]?.alone ?? 1), moved[phase][link]);
    const { hostCompute, ...parts } = computed[phase];
    const { compute } = parts;
    const disk = { diskRead: over('diskRead'), diskWrite: over('diskWrite') };
    const limits = { disk: bothWays(profile, disk) };
    if (profile.computeTier === 'cpu') return { seconds: { compute, ...disk }, limits, parts };
    const host = { hostToDevice: over('hostToDevice'), deviceToHost: over('deviceToHost') };
    return {
      seconds: { compute, hostCompute, ...host, ...disk },
      limits: { ...limits, host: bothWays(profile, host) },
      parts,
    };
  };
}

/** Of two directions of a link at once, whose rates together may be below the sum of both alone; at worst they take turns. */
function bothWays({ links }: HardwareProfile, seconds: Readonly<Partial<Record<LinkName, Linear>>>): Linear {
  const names = Object.keys(seconds) as LinkName[];
  const together = names.reduce((sum, name) => sum + links[name]!.together / links[name]!.alone, 0);
  return times(1 / Math.max(1, together), plus(...Object.values(seconds)));
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

interface ComputeSeconds {
  readonly compute: Linear;
  /** Of that. */
  readonly attention: Linear;
  /** On the cpu beside a device. */
  readonly hostCompute: Linear;
}

function computeSeconds(
  study: CostCase,
  choice: Choice,
  fixed: FixedUse,
  group: SweepGroup,
): Readonly<Record<PhaseName, ComputeSeconds>> {
  const { config, profile, workload } = study;
  const { computeTier, attention } = profile;
  const { promptRows, decodeRows, newcomers } = group;
  const rows = promptRows + decodeRows;
  const heads = decodeRows + newcomers;
  const flops = rowFlops(config);
  const rates = ratesOf(profile, choice);
  const factors = factorsOf(study);
  const [width, prompt] = [config.hiddenSize, workload.promptTokens];
  const [head, later] = [headShare(config, choice, fixed), laterShare(choice)];
  const products = (count: number, flopsOfRow: number, ofWeights: number) => {
    const seconds = productSeconds(rates.curves, width, count, count * flopsOfRow);
    const widened = rates.widenSeconds * weightBytes(config).float32;
    const handled = factors.partSeconds * fixed.parts;
    return plus(
      constant(factors.products * (seconds + ofWeights * widened)),
      times(ofWeights * handled, share('weights', 'disk')),
    );
  };
  const calls = (choice.numGpuBatches + newcomers) * profile.callSeconds;
  const beside = factors.products * config.numLayers * (besideProducts(config, profile, rows) + calls);
  const onDevice = computeTier === 'cpu' || choice.attention === 'device' ? constant(1) : share('kv', computeTier);
  const cached = times(factors.attention * attentionSeconds(study, choice, group, computeTier), onDevice);
  const prompts = factors.attention * newcomers * curveSeconds(attention.prompt, prompt, flops.attention(prompt));
  const first = plus(constant(prompts), times(1 - later, cached));
  return {
    layers: {
      compute: plus(products(rows, flops.row, 1 - head), constant(beside), first),
      attention: first,
      hostCompute: hostSeconds(study, choice, group),
    },
    laterBatches: { compute: times(later, cached), attention: times(later, cached), hostCompute: constant(0) },
    head: { compute: products(heads, flops.head, head), attention: constant(0), hostCompute: constant(0) },
  };
}

/** Of time: what the engine takes beside its parts, and what runs took beside that. */
function factorsOf({ config, profile: { rehearsed, refined } }: CostCase) {
  const found = (of: (rehearsal: Rehearsal) => number, otherwise: number) =>
    rehearsed ? betweenWidths(rehearsed, config.hiddenSize, of) : otherwise;
  const compute = refined?.computeFactor ?? 1;
  return {
    products: compute * found(({ products }) => products, 1),
    partSeconds: compute * found(({ partSeconds }) => partSeconds, 0),
    attention: compute * found(({ attention }) => attention, 1),
    disk: (refined?.ioFactor ?? 1) * found(({ disk }) => disk, 1),
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

/** Two norms, four products, a rotation and two sums. */
const STEPS_OF_LAYER = 9;
