/**
 * Group-wise quantisation: 64 neighbours along one dimension share a scale and a minimum, both float16.
 *
 * Source: FlexGen §5, "Group-wise Quantization", and its code: code = round((x - min) · scale), scale = (2^bits - 1) / (max - min),
 * x' = code / scale + min. Weights are grouped along their rows (dimension 0 of (out, in)), keys and values along headDim.
 * A dimension is padded with zeros to a multiple of 64; the padding takes part in minimum and maximum.
 *
 * Two departures. A scale that overflows float16 (constant groups, ranges below 15/65504) is stored as the largest
 * number, where FlexGen stores infinity and loses the group's values. With 8 bits the codes are made from the rounded
 * scale and minimum, as the rounding would cost a quarter of a step; with 4 bits, as in FlexGen, from the exact ones.
 */
import { decodeColumns, encodeColumns } from './quantize-columns.js';
import type { QuantizedArrays, QuantizedBits } from './quantize-groups.js';
import { GROUP_SIZE } from './quantize-groups.js';
import { decodeLine, encodeLine } from './quantize-lines.js';

export type { QuantizedBits } from './quantize-groups.js';
export { GROUP_SIZE } from './quantize-groups.js';

export interface Quantized extends QuantizedArrays {
  /** Of the values, unpadded. */
  readonly shape: readonly number[];
  readonly groupDim: number;
}

/** Positions along dimension 0. */
export interface RowRange {
  readonly start: number;
  readonly end: number;
}

/** Elements of `data`, and of each of `scale` and `min`. */
export function quantizedSizes(
  shape: readonly number[],
  groupDim: number,
  bits: QuantizedBits,
): { readonly data: number; readonly scale: number } {
  const { outer, inner, groups } = extentsOf(shape, groupDim);
  const scale = outer * groups * inner;
  return { data: (scale * GROUP_SIZE * bits) / 8, scale };
}

/** Values must be finite. Groups that reach beyond the largest float16 (65504) are clamped to it. */
export function quantize(
  values: Float32Array,
  shape: readonly number[],
  groupDim: number,
  bits: QuantizedBits,
): Quantized {
  const sizes = quantizedSizes(shape, groupDim, bits);
  const quantized = {
    bits,
    shape,
    groupDim,
    data: new Uint8Array(sizes.data),
    scale: new Uint16Array(sizes.scale),
    min: new Uint16Array(sizes.scale),
  };
  quantizeInto(values, quantized);
  return quantized;
}

/** As `quantize`, into arrays at hand. */
export function quantizeInto(values: Float32Array, target: Quantized): void {
  const { outer, size, inner, groups } = joined(extentsOf(target.shape, target.groupDim));
  const encode = inner === 1 ? encodeLine : encodeColumns;
  for (let slab = 0; slab < outer; slab++) {
    encode(values, slab * size * inner, target, { group: slab * groups, inner, start: 0, end: size });
  }
}

/**
 * Rows [start, end) of dimension 0 as float32; all of them by default.
 *
 * @param into receives the values if given, from its start; must hold them.
 */
export function dequantize(quantized: Quantized, range?: RowRange, into?: Float32Array): Float32Array {
  const { shape, groupDim } = quantized;
  const { inner, groups } = extentsOf(shape, groupDim);
  const { start, end } = range ?? { start: 0, end: shape[0]! };
  if (!(start >= 0 && start <= end && end <= shape[0]!)) throw new RangeError(`rows ${start} to ${end} of ${shape[0]}`);
  const needed = (end - start) * product(shape.slice(1));
  const target = into ?? new Float32Array(needed);
  if (target.length < needed) throw new RangeError(`needed room for ${needed} values, found ${target.length}`);
  const decode = inner === 1 ? decodeLine : decodeColumns;
  if (groupDim === 0) {
    decode(quantized, { group: 0, inner, start, end }, target, 0);
    return target;
  }
  const rows = joined(extentsOf([end - start, ...shape.slice(1)], groupDim));
  const firstGroup = start * product(shape.slice(1, groupDim)) * groups;
  for (let slab = 0; slab < rows.outer; slab++) {
    const run = { group: firstGroup + slab * rows.groups, inner, start: 0, end: rows.size };
    decode(quantized, run, target, slab * rows.size * inner);
  }
  return target;
}

/** The array around the grouped dimension: (outer, size, inner). */
interface Extents {
  readonly outer: number;
  readonly size: number;
  readonly inner: number;
  readonly groups: number;
}

/** Lines of whole groups are one long line, which is a call instead of millions. */
function joined(extents: Extents): Extents {
  const { outer, size, inner, groups } = extents;
  if (inner !== 1 || size % GROUP_SIZE !== 0) return extents;
  return { outer: 1, size: outer * size, inner, groups: outer * groups };
}

function extentsOf(shape: readonly number[], groupDim: number): Extents {
  const size = shape[groupDim]!;
  return {
    outer: product(shape.slice(0, groupDim)),
    size,
    inner: product(shape.slice(groupDim + 1)),
    groups: Math.ceil(size / GROUP_SIZE),
  };
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total * size, 1);
}
