/**
 * A tensor as it lies in a file, and its rows as float32.
 *
 * Every format comes down to this: a run of blocks, row after row, each block of a fixed number of bytes and values.
 */
import { EngineError } from '../errors.js';
import type { BlockFormat } from './gguf-blocks.js';
import { blockFormats } from './gguf-blocks.js';
import type { RangedFile } from './ranged-file.js';

export interface StoredTensor {
  /** The file's own name for it. */
  readonly name: string;
  readonly file: RangedFile;
  /** As the file names it: F32, BF16, Q4_K, ... */
  readonly type: string;
  /** (out, in) or (size), the slowest dimension first. */
  readonly shape: readonly number[];
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Tensors by the names of the file or files that hold them. */
export interface TensorFiles {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** For messages: the file, or the directory of shards. */
  readonly path: string;
  close(): Promise<void>;
}

/** For row r of the tensor wanted, the row of the file; absent where they are the same. */
export type RowOrder = (row: number) => number;

/** Large enough for the disk's full speed, small enough to be forgotten. */
const chunkBytes = 4 * 1024 * 1024;

/**
 * Dequantises rows [rowStart, rowEnd), or elements of a vector, into the start of `into`.
 *
 * @throws UNSUPPORTED if the type cannot be read; BAD_WEIGHTS if the file ends before.
 */
export async function readRows(
  tensor: StoredTensor,
  rowStart: number,
  rowEnd: number,
  into: Float32Array,
  rowOrder?: RowOrder,
): Promise<void> {
  const format = formatOf(tensor);
  const columns = rowValues(tensor);
  if (columns % format.valuesPerBlock !== 0) return readBlockedVector(tensor, format, rowStart, rowEnd, into, rowOrder);
  const rowBytes = (columns / format.valuesPerBlock) * format.bytesPerBlock;
  if (tensor.type === 'F32' && rowOrder === undefined) {
    const target = new Uint8Array(into.buffer, into.byteOffset, (rowEnd - rowStart) * rowBytes);
    return tensor.file.read(tensor.offsetBytes + rowStart * rowBytes, target, `tensor ${tensor.name}`);
  }
  const chunkRows = Math.max(1, Math.floor(chunkBytes / rowBytes));
  for (let start = rowStart; start < rowEnd; start += chunkRows) {
    const end = Math.min(rowEnd, start + chunkRows);
    await readChunk(
      { tensor, format, columns, rowBytes },
      start,
      end,
      into.subarray((start - rowStart) * columns),
      rowOrder,
    );
  }
}

/** Values of one row; 1 for a vector, whose rows are its elements. */
export function rowValues({ shape }: StoredTensor): number {
  return shape.slice(1).reduce((product, size) => product * size, 1);
}

/** How the values of a tensor are packed. @throws UNSUPPORTED, with the types that can be read. */
export function formatOf(tensor: StoredTensor): BlockFormat {
  const format = blockFormats.get(tensor.type);
  if (format !== undefined) return format;
  const supported = [...blockFormats.keys()];
  throw new EngineError(
    'UNSUPPORTED',
    `${tensor.file.path}: tensor ${tensor.name} has type ${tensor.type}; supported are ${supported.join(', ')}`,
    { path: tensor.file.path, tensor: tensor.name, type: tensor.type, supported },
  );
}

/**
 * That every tensor lies within its file and none lies in another.
 *
 * @throws BAD_WEIGHTS naming the file, the tensor, what was needed and what was found.
 */
export function checkExtents(tensors: Iterable<StoredTensor>): void {
  const sorted = [...tensors].sort((a, b) => a.offsetBytes - b.offsetBytes || a.sizeBytes - b.sizeBytes);
  let previous: StoredTensor | undefined;
  for (const tensor of sorted) {
    const { file, name, offsetBytes } = tensor;
    const endBytes = offsetBytes + tensor.sizeBytes;
    if (endBytes > file.sizeBytes) {
      throw new EngineError(
        'BAD_WEIGHTS',
        `${file.path}: tensor ${name}: needed ${endBytes} B, the file has ${file.sizeBytes} B; it is truncated, fetch it again`,
        { path: file.path, tensor: name, neededBytes: endBytes, foundBytes: file.sizeBytes },
      );
    }
    if (previous !== undefined && offsetBytes < previous.offsetBytes + previous.sizeBytes) {
      throw new EngineError(
        'BAD_WEIGHTS',
        `${file.path}: tensor ${name} begins at ${offsetBytes} B, inside tensor ${previous.name}, which ends at ${previous.offsetBytes + previous.sizeBytes} B`,
        { path: file.path, tensor: name, overlaps: previous.name },
      );
    }
    previous = tensor;
  }
}

interface RowLayout {
  readonly tensor: StoredTensor;
  readonly format: BlockFormat;
  readonly columns: number;
  readonly rowBytes: number;
}

async function readChunk(
  layout: RowLayout,
  rowStart: number,
  rowEnd: number,
  into: Float32Array,
  rowOrder?: RowOrder,
): Promise<void> {
  const { tensor, format, columns, rowBytes } = layout;
  const blocksPerRow = columns / format.valuesPerBlock;
  const span = rowOrder === undefined ? { first: rowStart, end: rowEnd } : fileSpan(rowOrder, rowStart, rowEnd);
  const bytes = new Uint8Array((span.end - span.first) * rowBytes);
  await tensor.file.read(tensor.offsetBytes + span.first * rowBytes, bytes, `tensor ${tensor.name}`);
  if (rowOrder === undefined) {
    format.dequantise(bytes, 0, into, 0, (rowEnd - rowStart) * blocksPerRow);
    return;
  }
  for (let row = rowStart; row < rowEnd; row++) {
    format.dequantise(bytes, (rowOrder(row) - span.first) * rowBytes, into, (row - rowStart) * columns, blocksPerRow);
  }
}

/** The file's rows that hold the wanted ones; those between are read as well, since one read is faster than many. */
function fileSpan(rowOrder: RowOrder, rowStart: number, rowEnd: number): { first: number; end: number } {
  let first = Number.POSITIVE_INFINITY;
  let end = 0;
  for (let row = rowStart; row < rowEnd; row++) {
    const fileRow = rowOrder(row);
    first = Math.min(first, fileRow);
    end = Math.max(end, fileRow + 1);
  }
  return { first, end };
}

/** A vector whose elements share blocks: small, so all of it is read and the elements picked. */
async function readBlockedVector(
  tensor: StoredTensor,
  format: BlockFormat,
  start: number,
  end: number,
  into: Float32Array,
  rowOrder: RowOrder = (row) => row,
): Promise<void> {
  const bytes = new Uint8Array(tensor.sizeBytes);
  await tensor.file.read(tensor.offsetBytes, bytes, `tensor ${tensor.name}`);
  const values = new Float32Array((tensor.sizeBytes / format.bytesPerBlock) * format.valuesPerBlock);
  format.dequantise(bytes, 0, values, 0, tensor.sizeBytes / format.bytesPerBlock);
  for (let index = start; index < end; index++) into[index - start] = values[rowOrder(index)]!;
}
