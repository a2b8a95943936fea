/**
 * Which rows of which tensors live where.
 *
 * Fractions are realised in rows, not in whole tensors, and what rounding leaves over is carried to the next tensor, so
 * the fractions asked are the fractions placed. FlexGen rounds tensors: asked for 20 % on the GPU, it places 8.3 %.
 */
import type { ModelConfig } from '../model/config.js';
import {
  expertOf,
  layerKind,
  layerTensors,
  mayStream,
  numSteps,
  type StagedTensor,
  type TensorName,
} from '../model/layers.js';
import { groupedRows } from './packed.js';
import { GROUP_SIZE } from './quantize.js';
import type { TierName } from './tier.js';

/** Shares of the weights that every sweep reads; they add up to 1. */
export type Fractions = Readonly<Record<TierName, number>>;

/** Rows [0, gpu) of a matrix live on the gpu, [gpu, cpu) on the cpu, the rest on disk. */
export interface RowHomes {
  readonly gpu: number;
  readonly cpu: number;
  readonly rows: number;
}

/** Rows [rowStart, rowEnd) of one matrix, and where they live. */
export interface WeightPart {
  /** As `layerTensors` counts: 0 is the embedding. */
  readonly layer: number;
  readonly tensor: TensorName;
  readonly rowStart: number;
  readonly rowEnd: number;
  readonly home: TierName;
}

export interface Placement {
  homes(layer: number, tensor: TensorName): RowHomes;
  /** What every sweep reads of what does not live on the tier that computes, in the order in which a sweep uses it. */
  readonly parts: readonly WeightPart[];
  /** What of an expert does not live there, in the order in which its network uses it. */
  expertParts(layer: number, expert: number): readonly WeightPart[];
  /** Of the rows that every sweep reads, as placed. */
  readonly fractions: Fractions;
}

export interface PlacementOptions {
  readonly fractions: Fractions;
  /** The tier that computes: rows that live there do not move. */
  readonly computeTier: 'gpu' | 'cpu';
  /** Of one row of a matrix, as stored. */
  readonly rowBytes: (layer: number, tensor: TensorName) => number;
  /** Parts are at most so large, unless GROUP_SIZE rows are larger. */
  readonly partBytes: number;
}

export function placeWeights(config: ModelConfig, options: PlacementOptions): Placement {
  const homes = new Map<string, RowHomes>();
  const placedBytes = { gpu: 0, cpu: 0, disk: 0 };
  let total = 0;
  const matrices = streamedMatrices(config);
  for (const [layer, pair] of matrices) {
    const rows = pair[0]!.shape[0]!;
    const bytes = pair.reduce((sum, { name }) => sum + options.rowBytes(layer, name), 0);
    total += rows * bytes;
    const { gpu: gpuShare, cpu: cpuShare } = options.fractions;
    const gpu = roundRows(gpuShare * total - placedBytes.gpu, bytes, rows);
    const upTo = roundRows((gpuShare + cpuShare) * total - placedBytes.gpu - placedBytes.cpu, bytes, rows);
    const cpu = Math.max(gpu, upTo);
    placedBytes.gpu += gpu * bytes;
    placedBytes.cpu += (cpu - gpu) * bytes;
    placedBytes.disk += (rows - cpu) * bytes;
    for (const { name } of pair) homes.set(`${layer} ${name}`, { gpu, cpu, rows });
  }
  const experts = new Map<string, WeightPart[]>();
  const parts: WeightPart[] = [];
  for (const [layer, pair] of matrices) {
    const expert = expertOf(pair[0]!.name);
    const own = partsOf(layer, pair, homes, options);
    if (expert === undefined) parts.push(...own);
    else experts.set(`${layer} ${expert}`, [...(experts.get(`${layer} ${expert}`) ?? []), ...own]);
  }
  const share = (tier: TierName) => placedBytes[tier] / total;
  return {
    homes: (layer, tensor) => homes.get(`${layer} ${tensor}`)!,
    parts,
    expertParts: (layer, expert) => experts.get(`${layer} ${expert}`) ?? [],
    fractions: { gpu: share('gpu'), cpu: share('cpu'), disk: share('disk') },
  };
}

/**
 * The matrices that stream, in the order of use; gate and up together, since they are used row by row. Embeddings are
 * read by the row, so they do not stream.
 */
function streamedMatrices(config: ModelConfig): [layer: number, pair: StagedTensor[]][] {
  const layers = Array.from({ length: numSteps(config) }, (_, layer) => layer);
  return layers.flatMap((layer) => {
    if (layerKind(config, layer) === 'embed') return [];
    const matrices = layerTensors(config, layer).filter(mayStream);
    const byName = new Map(matrices.map((tensor) => [tensor.name, tensor]));
    const gates = new Set(matrices.map(({ name }) => byName.get(gateOf(name))));
    return matrices
      .filter((tensor) => !gates.has(tensor))
      .map((tensor): [number, StagedTensor[]] => {
        const gate = byName.get(gateOf(tensor.name));
        return [layer, gate ? [gate, tensor] : [tensor]];
      });
  });
}

/** The tensor that a network's `up` is used with; of other tensors, a name that none has. */
function gateOf(name: TensorName): TensorName {
  const [network] = /^(experts\.\d+\.)?(?=up$)/.exec(name) ?? ['none.'];
  return `${network}gate` as TensorName;
}

function partsOf(
  layer: number,
  pair: readonly StagedTensor[],
  homes: ReadonlyMap<string, RowHomes>,
  { computeTier, rowBytes, partBytes }: PlacementOptions,
): WeightPart[] {
  const { gpu, cpu, rows } = homes.get(`${layer} ${pair[0]!.name}`)!;
  const widest = Math.max(...pair.map(({ name }) => rowBytes(layer, name)));
  const step = groupedRows(partBytes, widest);
  const ranges: [TierName, number, number][] = [
    ...(computeTier === 'gpu' ? [['cpu', gpu, cpu] as [TierName, number, number]] : []),
    ['disk', cpu, rows],
  ];
  return ranges.flatMap(([home, from, to]) => {
    const parts: WeightPart[] = [];
    for (let rowStart = from; rowStart < to; rowStart += step) {
      const rowEnd = Math.min(to, rowStart + step);
      for (const { name: tensor } of pair) parts.push({ layer, tensor, rowStart, rowEnd, home });
    }
    return parts;
  });
}

/** Whole groups, or all rows: a part must begin a group. */
function roundRows(bytes: number, rowBytes: number, rows: number): number {
  if (bytes >= rows * rowBytes) return rows;
  const wanted = Math.round(bytes / rowBytes / GROUP_SIZE) * GROUP_SIZE;
  return Math.min(rows, Math.max(0, wanted));
}
