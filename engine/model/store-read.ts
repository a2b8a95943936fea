/**
 * Reads an offload store: any rows of any tensor, in the form in which they are stored, past the page cache.
 *
 * Opening checks what costs nothing: the header's own sum, that `weights.bin` belongs to it and is whole, that the source
 * has not changed. Reading checks no sums, since rows are read again and again; `verifyStore` does, once.
 */
import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { EngineError } from '../errors.js';
import { alignedBuffer, alignedRange, alignUp, BLOCK_BYTES, viewOf } from '../memory/aligned-buffer.js';
import type { DirectFile, DirectOptions } from '../memory/direct-file.js';
import { openDirect } from '../memory/direct-file.js';
import type { PackedMatrix } from '../memory/packed.js';
import { GROUP_SIZE } from '../memory/quantize.js';
import type { ModelConfig } from './config.js';
import type { TensorName } from './layers.js';
import type { StoreFormat } from './store.js';
import { isGrouped, regionRange, storeFiles } from './store.js';
import type { StoreHeader, StoreTensor, SummedRegion } from './store-header.js';
import { checkSource, dataMagic, readHeader, storeIdentity } from './store-header.js';

export interface Store {
  readonly directory: string;
  readonly config: ModelConfig;
  /** The source's own where the form changed no value. */
  readonly identity: string;
  readonly format: StoreFormat;
  /** In the order of the layers, each in the order of `layerTensors`. */
  readonly tensors: readonly StoreTensor[];
  readonly file: DirectFile;
  tensor(layer: number, name: TensorName): StoreTensor;
  /** Memory that `readRows` can fill without a copy by the system, at least so long. */
  allocate(bytes: number): Uint8Array;
  /** Bytes that `readRows` needs for rows [rowStart, rowEnd): their own, and the rest of the blocks around them. */
  roomFor(tensor: StoreTensor, rowStart: number, rowEnd: number): number;
  /**
   * Rows [rowStart, rowEnd) of a matrix, or elements of a vector. Nothing is copied: the result is views of `into`, good
   * until it is used again.
   *
   * @param rowStart where the tensor is in groups, a multiple of GROUP_SIZE.
   * @param into from `allocate`, at a multiple of BLOCK_BYTES from its start.
   * @param urgent before what waits for its turn: nothing is computed meanwhile.
   * @throws BAD_WEIGHTS if the file has been cut since it was opened.
   */
  readRows(
    tensor: StoreTensor,
    rowStart: number,
    rowEnd: number,
    into: Uint8Array,
    urgent?: boolean,
  ): Promise<PackedMatrix>;
  close(): Promise<void>;
}

export interface OpenStoreOptions extends DirectOptions {
  /** Where sums of model files are remembered, should the source have to be read. */
  readonly cacheDir?: string;
}

/**
 * @throws BAD_INPUT if there is no store, or it was made by another version of the program or of the source;
 * BAD_WEIGHTS if its header is damaged or its data cut or another store's.
 */
export async function openStore(directory: string, options: OpenStoreOptions = {}): Promise<Store> {
  const path = resolve(directory);
  const header = await readHeader(path);
  await checkSource(path, header, options.cacheDir);
  const file = openDirect(join(path, storeFiles.data), 'read', options);
  try {
    await checkData(file, header);
  } catch (error) {
    await file.close();
    throw error;
  }
  const tensors = new Map(header.tensors.map((tensor) => [`${tensor.layer} ${tensor.name}`, tensor]));
  return {
    directory: path,
    config: header.config,
    identity: storeIdentity(header),
    format: header.format,
    tensors: header.tensors,
    file,
    tensor(layer, name) {
      const tensor = tensors.get(`${layer} ${name}`);
      if (tensor !== undefined) return tensor;
      throw new EngineError('BAD_WEIGHTS', `${path}: this store has no tensor ${name} in layer ${layer}`, {
        path,
        layer,
        name,
      });
    },
    allocate: (bytes) => viewOf(alignedBuffer(bytes, file)),
    roomFor,
    readRows: (...request) => readRows(file, ...request),
    close: () => file.close(),
  };
}

/**
 * Reads everything and compares it with its sums.
 *
 * @throws BAD_WEIGHTS naming the damaged tensor; and what `openStore` throws.
 */
export async function verifyStore(
  directory: string,
  onProgress?: (doneBytes: number, totalBytes: number) => void,
): Promise<void> {
  const store = await openStore(directory);
  try {
    const buffer = store.allocate(VERIFY_BYTES);
    for (const tensor of store.tensors) {
      if (tensor.sharedWith !== undefined) continue;
      for (const region of regionsOf(tensor)) await verifyRegion(store, tensor, region, buffer);
      const last = regionsOf(tensor).at(-1)!;
      onProgress?.(last.offset + last.bytes, store.file.sizeBytes);
    }
  } finally {
    await store.close();
  }
}

const VERIFY_BYTES = 16 * 1024 * 1024;

async function verifyRegion(
  store: Store,
  tensor: StoreTensor,
  region: SummedRegion,
  buffer: Uint8Array,
): Promise<void> {
  const hash = createHash('sha256');
  for (let done = 0; done < region.bytes; done += buffer.length) {
    const bytes = Math.min(buffer.length, region.bytes - done);
    await store.file.read(buffer.subarray(0, alignUp(bytes)), region.offset + done, describe(tensor));
    hash.update(buffer.subarray(0, bytes));
  }
  const found = hash.digest('hex');
  if (found === region.sha256) return;
  throw new EngineError(
    'BAD_WEIGHTS',
    `${store.file.path}: ${describe(tensor)}: its SHA-256 should be ${region.sha256} and is ${found}; the file is damaged, import the model again`,
    { path: store.file.path, layer: tensor.layer, tensor: tensor.name, needed: region.sha256, found },
  );
}

async function checkData(file: DirectFile, header: StoreHeader): Promise<void> {
  if (file.sizeBytes !== header.bytes) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${file.path}: needed ${header.bytes} B, found ${file.sizeBytes} B; it is truncated, import the model again`,
      { path: file.path, neededBytes: header.bytes, foundBytes: file.sizeBytes },
    );
  }
  const block = viewOf(alignedBuffer(BLOCK_BYTES, file));
  await file.read(block, 0, 'first block');
  const needed = dataMagic + header.id;
  if (Buffer.from(block.subarray(0, needed.length)).toString('latin1') === needed) return;
  throw new EngineError(
    'BAD_WEIGHTS',
    `${file.path}: does not belong to ${storeFiles.header} beside it; import the model again`,
    { path: file.path },
  );
}

function roomFor(tensor: StoreTensor, rowStart: number, rowEnd: number): number {
  const ranges = regionsOf(tensor).map((region) => regionRange(region, tensor.type, rowStart, rowEnd));
  return ranges.reduce((sum, { offset, bytes }) => sum + alignedRange(offset, bytes).length, 0);
}

async function readRows(
  file: DirectFile,
  tensor: StoreTensor,
  rowStart: number,
  rowEnd: number,
  into: Uint8Array,
  urgent = false,
): Promise<PackedMatrix> {
  checkRows(tensor, rowStart, rowEnd);
  let used = 0;
  const reads: Promise<void>[] = [];
  const [data, scale, min] = regionsOf(tensor).map((region) => {
    const { offset, bytes } = regionRange(region, tensor.type, rowStart, rowEnd);
    const { start, length, skip } = alignedRange(offset, bytes);
    const blocks = into.subarray(used, used + length);
    if (blocks.length < length) {
      throw new RangeError(
        `${describe(tensor)}: needed room for ${roomFor(tensor, rowStart, rowEnd)} B, found ${into.length}`,
      );
    }
    used += length;
    reads.push(file.read(blocks, start, describe(tensor), { urgent }));
    return blocks.subarray(skip, skip + bytes);
  });
  // All settle, so that none fills `into` after a failure has given it back.
  for (const outcome of await Promise.allSettled(reads)) if (outcome.status === 'rejected') throw outcome.reason;
  const { type } = tensor;
  const shape = [rowEnd - rowStart, ...tensor.shape.slice(1)];
  if (type === 'float32') return { type, shape, data: floats(data!) };
  if (type === 'float16') return { type, shape, data: halves(data!) };
  const bits = type === 'int4' ? 4 : 8;
  return { type, shape, groups: { bits, shape, groupDim: 0, data: data!, scale: halves(scale!), min: halves(min!) } };
}

function checkRows({ shape, type, layer, name }: StoreTensor, rowStart: number, rowEnd: number): void {
  if (!(rowStart >= 0 && rowStart <= rowEnd && rowEnd <= shape[0]!)) {
    throw new RangeError(`layer ${layer} ${name}: rows ${rowStart} to ${rowEnd} of ${shape[0]}`);
  }
  if (isGrouped(type) && rowStart % GROUP_SIZE !== 0) {
    throw new RangeError(`layer ${layer} ${name}: row ${rowStart} begins no group of ${GROUP_SIZE}`);
  }
}

function regionsOf({ regions: { data, scale, min } }: StoreTensor): readonly SummedRegion[] {
  return scale === undefined || min === undefined ? [data] : [data, scale, min];
}

function describe({ layer, name, sources }: StoreTensor): string {
  return `layer ${layer} ${name} (${sources.map((source) => source.name).join(' + ')})`;
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / Float32Array.BYTES_PER_ELEMENT);
}

function halves(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / Uint16Array.BYTES_PER_ELEMENT);
}
