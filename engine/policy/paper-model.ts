/**
 * FlexGen's own cost model (arXiv 2303.06865v2, appendix A.3): a layer of a block, in closed formulas.
 *
 * It is here to reproduce the paper's figures and to compare policies on its own terms; plans are made by our own model. Two
 * forms of it differ in what overlaps. `paper`: everything does. `released`: what its authors published as
 * experimental/cost_model.py, where traffic of one direction adds up, and in decoding nothing hides behind the weights' way
 * to the GPU; their runtime behaves so.
 *
 * Names are the paper's: s prompt tokens, n generated, gbs GPU batch, bls block, h1 hidden, h2 MLP. Values are fp16.
 */
import type { ModelConfig } from '../model/config.js';
import { constant, type Linear, plus, times, valueAt } from './linear-program.js';
import { type PlacedFractions, type PlacementProblem, share, type TierUse, valuesOf } from './placement-program.js';

/** Rates in bytes or FLOP a second, fitted by the paper's authors to their runs; capacities in bytes. */
export interface PaperMachine {
  readonly ctog: number;
  readonly gtocCache: number;
  readonly gtocHidden: number;
  readonly dtoc: number;
  readonly ctodCachePrefill: number;
  readonly ctodHiddenPrefill: number;
  readonly ctodDecode: number;
  readonly mmPrefill: number;
  readonly mmDecode: number;
  readonly bmmPrefill: number;
  readonly bmmDecode: number;
  readonly cpu: number;
  readonly capacityBytes: PlacedCapacity;
}

type PlacedCapacity = Readonly<Record<'gpu' | 'cpu' | 'disk', number>>;

const GiB = 2 ** 30;

/** The constants of experimental/cost_model.py, "aligned on google cloud T4". */
export const paperT4: PaperMachine = {
  ctog: 12.89 * GiB,
  gtocCache: 0.97 * GiB,
  gtocHidden: 4.82 * GiB,
  dtoc: 0.473 * GiB,
  ctodCachePrefill: 0.746 * GiB,
  ctodHiddenPrefill: 2.015 * GiB,
  ctodDecode: 2.015 * GiB,
  mmPrefill: 21.24e12,
  mmDecode: 4.3e12,
  bmmPrefill: 9.97e12,
  bmmDecode: 0.079e12,
  cpu: 0.0123e12,
  capacityBytes: { gpu: 15 * GiB, cpu: 204 * GiB, disk: 1500 * GiB },
};

/** The same with the disk that Table 24 says was there: the fitted one is several times slower, and misses the measurements. */
export const paperT4WithItsDisk: PaperMachine = {
  ...paperT4,
  dtoc: 1.6e9,
  ctodCachePrefill: 1.3e9,
  ctodHiddenPrefill: 1.3e9,
  ctodDecode: 1.3e9,
};

export type PaperForm = 'paper' | 'released';

export interface PaperCase {
  readonly config: ModelConfig;
  readonly machine: PaperMachine;
  readonly form: PaperForm;
  readonly promptLen: number;
  readonly genLen: number;
}

/** Sequences of a block: gbs and bls / gbs. */
export interface PaperBlock {
  readonly gpuBatchSize: number;
  readonly numGpuBatches: number;
}

/** Seconds of one layer; `sweeps` count layers of prefill and of decoding. */
export function paperProblem(study: PaperCase, block: PaperBlock): PlacementProblem {
  const { config, genLen, form } = study;
  const parts = { prefill: prefillSeconds(study, block), decode: decodeSeconds(study, block) };
  return {
    sweeps: [
      { name: 'prefill', count: config.numLayers, seconds: overlapped.prefill[form](parts.prefill) },
      { name: 'decode', count: config.numLayers * (genLen - 1), seconds: overlapped.decode[form](parts.decode) },
    ],
    uses: [...gpuUses(study, block), ...cpuUses(study, block), diskUse(study, block)],
    // The published code keeps activations off the disk.
    ...(form === 'released' && { pinned: { 'activations.disk': 0 } }),
  };
}

/** Generated tokens a second of a block, prefill included. */
export function paperThroughput(study: PaperCase, block: PaperBlock, seconds: number): number {
  return (block.gpuBatchSize * block.numGpuBatches * study.genLen) / seconds;
}

/** What of a layer's time goes where, at one placement. */
export function paperLayerSeconds(study: PaperCase, block: PaperBlock, fractions: PlacedFractions) {
  const at = (costs: Directions) => {
    const values = valuesOf(fractions);
    return Object.fromEntries(Object.entries(costs).map(([name, cost]) => [name, valueAt(cost, values)]));
  };
  return { prefill: at(prefillSeconds(study, block)), decode: at(decodeSeconds(study, block)) };
}

/** c, g, d: cpu, gpu, disk. */
type Directions = Readonly<Record<'ctog' | 'gtoc' | 'dtoc' | 'ctod' | 'comp', Linear>>;

const overlapped = {
  prefill: {
    paper: (costs: Directions) => costs,
    released: ({ ctog, gtoc, dtoc, ctod, comp }: Directions) => ({
      'ctog + dtoc': plus(ctog, dtoc),
      'gtoc + ctod': plus(gtoc, ctod),
      comp,
    }),
  },
  decode: {
    paper: (costs: Directions) => costs,
    released: ({ ctog, ...others }: Directions) =>
      Object.fromEntries(Object.entries(others).map(([name, cost]) => [`ctog + ${name}`, plus(ctog, cost)])),
  },
};

/** Bytes of a layer's weights; biases and embeddings are not counted. */
function layerBytes({ hiddenSize: h1, ffnSize: h2 }: ModelConfig): number {
  return 8 * h1 ** 2 + 4 * h1 * h2;
}

/** Off the GPU: on the cpu or on disk. */
const off = (placed: 'weights' | 'kv' | 'activations') => plus(share(placed, 'cpu'), share(placed, 'disk'));

function prefillSeconds({ config, machine, form, promptLen: s }: PaperCase, block: PaperBlock): Directions {
  const { hiddenSize: h1 } = config;
  const bls = block.gpuBatchSize * block.numGpuBatches;
  const w = layerBytes(config);
  const hidden = 2 * s * h1 * bls;
  const cache = 4 * (s + 1) * h1 * bls;
  return {
    ctog: times(1 / machine.ctog, plus(times(w, off('weights')), times(hidden, off('activations')))),
    gtoc: plus(times(cache / machine.gtocCache, off('kv')), times(hidden / machine.gtocHidden, off('activations'))),
    dtoc: plus(
      times(w / weightReads(machine, form), share('weights', 'disk')),
      times(hidden / machine.dtoc, share('activations', 'disk')),
    ),
    ctod: plus(
      times(cache / machine.ctodCachePrefill, share('kv', 'disk')),
      times(hidden / machine.ctodHiddenPrefill, share('activations', 'disk')),
    ),
    comp: constant((bls * s * w) / machine.mmPrefill + (4 * bls * s ** 2 * h1) / machine.bmmPrefill),
  };
}

function decodeSeconds({ config, machine, form, promptLen: s, genLen: n }: PaperCase, block: PaperBlock): Directions {
  const { hiddenSize: h1 } = config;
  const bls = block.gpuBatchSize * block.numGpuBatches;
  const w = layerBytes(config);
  const hidden = 2 * h1 * bls;
  const cache = 4 * bls * (s + n / 2) * h1;
  return {
    ctog: times(1 / machine.ctog, plus(times(w, off('weights')), times(hidden, off('activations')))),
    gtoc: times(hidden / machine.gtocHidden, off('activations')),
    dtoc: plus(
      times(cache / machine.dtoc, share('kv', 'disk')),
      times(w / weightReads(machine, form), share('weights', 'disk')),
      times(hidden / machine.dtoc, share('activations', 'disk')),
    ),
    ctod: times(
      1 / machine.ctodDecode,
      plus(times(4 * bls * h1, share('kv', 'disk')), times(hidden, share('activations', 'disk'))),
    ),
    comp: plus(
      constant((bls * w) / machine.mmDecode),
      times(cache / machine.bmmDecode, share('kv', 'gpu')),
      times(cache / cpuRate(machine, config, block), off('kv')),
    ),
  };
}

/** The published code reads weights from disk at 0.95 of the rate of the rest. */
function weightReads({ dtoc }: PaperMachine, form: PaperForm): number {
  return form === 'released' ? 0.95 * dtoc : dtoc;
}

/** Attention on the cpu is slower for few sequences and narrow models, by the published fit c1, c2, c3. */
function cpuRate({ cpu }: PaperMachine, { hiddenSize }: ModelConfig, { gpuBatchSize }: PaperBlock): number {
  const few = Math.max(0, Math.log2(64 / gpuBatchSize));
  const narrow = Math.max(0, Math.log2(4096 / hiddenSize));
  return cpu * Math.max(0.1, 1 + 0.0168 * few * narrow - 0.0328 * few - 0.0621 * narrow);
}

/** What lives on a tier for the whole block, in one of the two phases. */
function home(
  { config, promptLen: s, genLen: n }: PaperCase,
  block: PaperBlock,
  tier: 'gpu' | 'cpu' | 'disk',
  rows: number,
) {
  const { hiddenSize: h1, numLayers: l } = config;
  const bls = block.gpuBatchSize * block.numGpuBatches;
  return plus(
    times(layerBytes(config) * l, share('weights', tier)),
    times(2 * rows * h1 * bls, share('activations', tier)),
    times(4 * (s + n) * h1 * bls * l, share('kv', tier)),
  );
}

function gpuUses(study: PaperCase, block: PaperBlock): TierUse[] {
  const { config, form, machine, promptLen: s, genLen: n } = study;
  const { hiddenSize: h1, ffnSize: h2, numHeads: nh } = config;
  const { gpuBatchSize: gbs } = block;
  const [all, kv] = [constant(1), share('kv', 'gpu')];
  const attends = form === 'paper' ? kv : all;
  const staged = plus(times(2 * layerBytes(config), off('weights')), times(2 * s * h1 * gbs, off('activations')));
  const mlp = (rows: number) => constant(2 * gbs * rows * (h1 + h2));
  const steps = {
    prefill: [
      constant(8 * gbs * s * h1),
      times(gbs * (4 * s * h1 + 2 * nh * s ** 2), attends),
      times(gbs * (4 * s * h1 + 2 * nh * s ** 2), attends),
      constant(4 * gbs * s * h1),
      mlp(s),
      mlp(s),
    ],
    decode: [
      constant(8 * gbs * h1),
      times(gbs * (2 * h1 + 2 * (s + n) * h1 + 2 * nh * (s + n)), kv),
      times(gbs * (2 * h1 + 2 * (s + n) * h1 + 2 * nh * (s + n)), kv),
      constant(4 * gbs * h1),
      mlp(1),
      mlp(1),
      ...(form === 'released' ? [times(4 * gbs * (s + n) * h1, kv)] : []),
    ],
  };
  return (['prefill', 'decode'] as const).flatMap((phase) => {
    const held = plus(home(study, block, 'gpu', phase === 'prefill' ? s : 1), staged);
    // One step after the other in the paper; the published code adds them up.
    const peaks = form === 'paper' ? steps[phase] : [plus(...steps[phase])];
    return peaks.map(
      (peak): TierUse => ({ tier: 'gpu', bytes: plus(held, peak), capacityBytes: machine.capacityBytes.gpu }),
    );
  });
}

function cpuUses(study: PaperCase, block: PaperBlock): TierUse[] {
  const { config, machine, promptLen: s, genLen: n } = study;
  const { hiddenSize: h1, numHeads: nh } = config;
  const { gpuBatchSize: gbs } = block;
  const w = layerBytes(config);
  const prefill = plus(times(w, off('weights')), times(2 * s * h1 * gbs, off('activations')));
  const decode = plus(
    times(w, share('weights', 'disk')),
    times(4 * h1 * gbs, share('activations', 'disk')),
    times(8 * (s + n) * h1 * gbs, share('kv', 'disk')),
    constant(2 * nh * (s + n) * gbs + 2 * h1 * gbs),
  );
  return [
    { tier: 'cpu', bytes: plus(home(study, block, 'cpu', s), prefill), capacityBytes: machine.capacityBytes.cpu },
    { tier: 'cpu', bytes: plus(home(study, block, 'cpu', 1), decode), capacityBytes: machine.capacityBytes.cpu },
  ];
}

function diskUse(study: PaperCase, block: PaperBlock): TierUse {
  const bytes = home(study, block, 'disk', study.promptLen);
  return { tier: 'disk', bytes, capacityBytes: study.machine.capacityBytes.disk };
}
