/**
 * Rows of a matrix as they are stored and moved: float32, float16, or 8 or 4 bits in groups of 64 rows.
 *
 * Backends widen them where they compute; nothing else looks inside.
 */
import { fromFloat16 } from './float16.js';
import { dequantize, type Quantized } from './quantize.js';

export type PackedMatrix =
  | { readonly type: 'float32'; readonly shape: readonly number[]; readonly data: Float32Array }
  | { readonly type: 'float16'; readonly shape: readonly number[]; readonly data: Uint16Array }
  /** Grouped along dimension 0. */
  | { readonly type: 'int8' | 'int4'; readonly shape: readonly number[]; readonly groups: Quantized };

export type PackedType = PackedMatrix['type'];

export function float32Matrix(data: Float32Array, shape: readonly number[]): PackedMatrix {
  return { type: 'float32', shape, data };
}

/** The values as float32; without a copy where they are so already. */
export function widen(matrix: PackedMatrix): Float32Array {
  switch (matrix.type) {
    case 'float32':
      return matrix.data;
    case 'float16':
      return fromFloat16(matrix.data);
    default:
      return dequantize(matrix.groups);
  }
}

/** Of the stored form. */
export function packedBytes(matrix: PackedMatrix): number {
  if (matrix.type === 'float32' || matrix.type === 'float16') return matrix.data.byteLength;
  const { data, scale, min } = matrix.groups;
  return data.byteLength + scale.byteLength + min.byteLength;
}

/** Rows of the given ids, widened: (ids, width). */
export function gatherRows(matrix: PackedMatrix, ids: Int32Array): Float32Array {
  const width = matrix.shape[1]!;
  const rows = new Float32Array(ids.length * width);
  ids.forEach((id, row) => {
    widenRow(matrix, id, rows.subarray(row * width, (row + 1) * width));
  });
  return rows;
}

function widenRow(matrix: PackedMatrix, row: number, into: Float32Array): void {
  const width = into.length;
  if (matrix.type === 'float32') into.set(matrix.data.subarray(row * width, (row + 1) * width));
  else if (matrix.type === 'float16') fromFloat16(matrix.data.subarray(row * width, (row + 1) * width), into);
  else dequantize(matrix.groups, { start: row, end: row + 1 }, into);
}
