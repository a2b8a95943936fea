/**
 * Rows of a matrix as they are stored and moved: float32, float16, or 8 or 4 bits in groups of 64 rows.
 *
 * Backends widen them where they compute; nothing else looks inside.
 */
import { fromFloat16 } from './float16.js';
import { dequantize, GROUP_SIZE, type Quantized } from './quantize.js';

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

/** Of one row of `width` values as stored; grouped rows carry their share of scale and minimum, 2 B each a group. */
export function packedRowBytes(type: PackedType, width: number): number {
  const perValue = { float32: 4, float16: 2, int8: 1 + 4 / GROUP_SIZE, int4: 0.5 + 4 / GROUP_SIZE };
  return width * perValue[type];
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

/** Rows [start, end) without a copy; `start` begins a group where the matrix has groups. */
export function sliceRows(matrix: PackedMatrix, start: number, end: number): PackedMatrix {
  const width = matrix.shape[1]!;
  const shape = [end - start, width];
  if (matrix.type === 'float32') return { ...matrix, shape, data: matrix.data.subarray(start * width, end * width) };
  if (matrix.type === 'float16') return { ...matrix, shape, data: matrix.data.subarray(start * width, end * width) };
  const { data, scale, min, bits } = matrix.groups;
  const [from, to] = [start / GROUP_SIZE, Math.ceil(end / GROUP_SIZE)];
  const groupBytes = (GROUP_SIZE * width * bits) / 8;
  const groups = {
    ...matrix.groups,
    shape,
    data: data.subarray(from * groupBytes, to * groupBytes),
    scale: scale.subarray(from * width, to * width),
    min: min.subarray(from * width, to * width),
  };
  return { type: matrix.type, shape, groups };
}

/** The matrix in as few parts of at most so many bytes as whole groups make; of one group where that is more. */
export function rowParts(matrix: PackedMatrix, partBytes: number): PackedMatrix[] {
  const [rows, width] = matrix.shape as [number, number];
  const step = groupedRows(partBytes, packedRowBytes(matrix.type, width));
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => {
    return sliceRows(matrix, i * step, Math.min(rows, (i + 1) * step));
  });
}

/** Rows of so many bytes, in whole groups: those that a part holds, and one group at least. */
export function groupedRows(partBytes: number, rowBytes: number): number {
  return Math.max(1, Math.floor(partBytes / rowBytes / GROUP_SIZE)) * GROUP_SIZE;
}

/** The same matrix in `into`, which is large enough and begins at a multiple of 4 bytes. */
export function copyPacked(matrix: PackedMatrix, into: Uint8Array): PackedMatrix {
  let used = 0;
  const place = (bytes: Uint8Array) => {
    const copy = into.subarray(used, used + bytes.length);
    copy.set(bytes);
    used += bytes.length;
    return copy;
  };
  if (matrix.type === 'float32') {
    const copy = place(bytesOf(matrix.data));
    return { ...matrix, data: new Float32Array(copy.buffer, copy.byteOffset, matrix.data.length) };
  }
  if (matrix.type === 'float16') return { ...matrix, data: halves(place(bytesOf(matrix.data))) };
  const { data, scale, min } = matrix.groups;
  const [scaleCopy, minCopy] = [halves(place(bytesOf(scale))), halves(place(bytesOf(min)))];
  return { ...matrix, groups: { ...matrix.groups, data: place(data), scale: scaleCopy, min: minCopy } };
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function halves({ buffer, byteOffset, byteLength }: Uint8Array): Uint16Array {
  return new Uint16Array(buffer, byteOffset, byteLength / Uint16Array.BYTES_PER_ELEMENT);
}
