/**
 * The offload store: a model laid out to be streamed, layer after layer, in the form in which it is moved.
 *
 * A directory with `weights.bin` (regions of bytes, each at a block boundary), `store.json` (what lies where, with sums)
 * and the tokenizer. Matrices are stored in one form, row after row, so that any rows can be read alone; vectors, and what
 * routes rows to experts, are float32. With 8 and 4 bits the scales and minima lie in regions of their own, and slices begin at whole groups.
 */
import { alignUp, BLOCK_BYTES } from '../memory/aligned-buffer.js';
import type { PackedType } from '../memory/packed.js';
import { GROUP_SIZE } from '../memory/quantize.js';
import type { ModelConfig } from './config.js';
import type { TensorName } from './layers.js';
import { isRouting, layerTensors, numSteps } from './layers.js';
import { tensorShapes } from './shapes.js';

/** Changes with the layout: a store of another version is imported again. */
export const STORE_VERSION = 1;

export const storeFiles = {
  data: 'weights.bin',
  header: 'store.json',
  tokenizer: 'tokenizer.json',
  tokenizerConfig: 'tokenizer_config.json',
} as const;

export type StoreFormat = 'fp32' | 'fp16' | 'int8' | 'int4';

export const packedTypes: Readonly<Record<StoreFormat, PackedType>> = {
  fp32: 'float32',
  fp16: 'float16',
  int8: 'int8',
  int4: 'int4',
};

/** Rows of a tensor in `weights.bin`, in units of a few rows that share bytes. */
export interface StoreRegion {
  /** A multiple of BLOCK_BYTES. */
  readonly offset: number;
  readonly rowsPerUnit: number;
  readonly unitBytes: number;
  /** Of all units, without what fills up the last block. */
  readonly bytes: number;
}

/** One staged tensor of a layer (layers.ts). */
export interface StorePlanTensor<Region extends StoreRegion = StoreRegion> {
  readonly layer: number;
  readonly name: TensorName;
  /** (out, in) or (size). */
  readonly shape: readonly number[];
  readonly type: PackedType;
  /** The weights joined in it, with the rows of each. */
  readonly sources: readonly { readonly name: string; readonly rows: number }[];
  readonly regions: { readonly data: Region; readonly scale?: Region; readonly min?: Region };
  /** The layer that has the same weights, and the same regions: a tied head's embedding. */
  readonly sharedWith?: number;
}

export interface StorePlan {
  readonly tensors: readonly StorePlanTensor[];
  /** Of `weights.bin`. */
  readonly bytes: number;
}

/** What a store of this model will be: known from the shapes alone. The first block is a header. */
export function planStore(config: ModelConfig, format: StoreFormat): StorePlan {
  const sourceShapes = new Map(tensorShapes(config));
  const placed = new Map<string, StorePlanTensor>();
  const tensors: StorePlanTensor[] = [];
  let offset = BLOCK_BYTES;
  for (let layer = 0; layer < numSteps(config); layer++) {
    for (const { name, sources, shape } of layerTensors(config, layer)) {
      const shared = placed.get(sources.join());
      if (shared !== undefined) {
        tensors.push({ ...shared, layer, name, sharedWith: shared.layer });
        continue;
      }
      const type = shape.length === 1 || isRouting(name) ? 'float32' : packedTypes[format];
      const regions = planRegions(type, shape, offset);
      const rows = sources.map((source) => ({ name: source, rows: sourceShapes.get(source)![0]! }));
      const tensor = { layer, name, shape, type, sources: rows, regions };
      placed.set(sources.join(), tensor);
      tensors.push(tensor);
      offset = endOf(regions.min ?? regions.data);
    }
  }
  return { tensors, bytes: offset };
}

/** Bytes of a tensor's rows [rowStart, rowEnd) in one of its regions; whole groups where there are groups. */
export function regionRange(region: StoreRegion, type: PackedType, rowStart: number, rowEnd: number) {
  const end = isGrouped(type) ? Math.ceil(rowEnd / GROUP_SIZE) * GROUP_SIZE : rowEnd;
  const first = rowStart / region.rowsPerUnit;
  return {
    offset: region.offset + first * region.unitBytes,
    bytes: (end / region.rowsPerUnit - first) * region.unitBytes,
  };
}

export function isGrouped(type: PackedType): type is 'int8' | 'int4' {
  return type === 'int8' || type === 'int4';
}

/** Values of one row: 1 for vectors, whose rows are their elements. */
export function rowValues(shape: readonly number[]): number {
  return shape[1] ?? 1;
}

function planRegions(type: PackedType, shape: readonly number[], offset: number): StorePlanTensor['regions'] {
  const rows = isGrouped(type) ? Math.ceil(shape[0]! / GROUP_SIZE) * GROUP_SIZE : shape[0]!;
  const columns = rowValues(shape);
  const region = (at: number, rowsPerUnit: number, unitBytes: number): StoreRegion => ({
    offset: at,
    rowsPerUnit,
    unitBytes,
    bytes: (rows / rowsPerUnit) * unitBytes,
  });
  if (type === 'float32') return { data: region(offset, 1, 4 * columns) };
  if (type === 'float16') return { data: region(offset, 1, 2 * columns) };
  // With 4 bits two rows share their bytes; each group has a float16 scale and minimum in every column.
  const data = region(offset, type === 'int4' ? 2 : 1, columns);
  const scale = region(endOf(data), GROUP_SIZE, 2 * columns);
  return { data, scale, min: region(endOf(scale), GROUP_SIZE, 2 * columns) };
}

function endOf({ offset, bytes }: StoreRegion): number {
  return alignUp(offset + bytes);
}
