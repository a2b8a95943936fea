/**
 * GGUF files, versions 2 and 3: metadata, a table of tensors, then the tensors' blocks.
 *
 * Source: docs/gguf.md of ggml. Only the header is read here; it is checked whole before a tensor is.
 */
import { EngineError } from '../errors.js';
import { blockFormats } from './gguf-blocks.js';
import type { GgufValue } from './gguf-reader.js';
import { GgufReader } from './gguf-reader.js';
import type { RangedFile } from './ranged-file.js';
import { openRangedFile } from './ranged-file.js';
import type { StoredTensor, TensorFiles } from './tensors.js';
import { checkExtents } from './tensors.js';

export interface GgufFile extends TensorFiles {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly alignmentBytes: number;
  /** Where the first tensor may begin. */
  readonly dataOffsetBytes: number;
}

const defaultAlignmentBytes = 32;
const maxDimensions = 4;

/** A key, its type and the smallest value; a name, the dimensions, the type and the offset. */
const minMetadataBytes = 8 + 4 + 1;
const minTensorBytes = 8 + 4 + 8 + 4 + 8;

/** Types that exist and cannot be read, so that a message can name them. */
const otherTypes: Readonly<Record<number, string>> = {
  9: 'Q8_1',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  21: 'IQ3_S',
  22: 'IQ2_S',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  34: 'TQ1_0',
  35: 'TQ2_0',
};

const typeNames: ReadonlyMap<number, string> = new Map([
  ...Object.entries(otherTypes).map(([type, name]) => [Number(type), name] as const),
  ...[...blockFormats].map(([name, { ggmlType }]) => [ggmlType, name] as const),
]);

/**
 * @throws BAD_WEIGHTS for a file that is truncated or contradicts itself, naming what was needed and what was found;
 * UNSUPPORTED for version 1 and big-endian files.
 */
export async function openGguf(path: string): Promise<GgufFile> {
  const file = await openRangedFile(path);
  try {
    return { path, close: () => file.close(), ...(await readHeader(file)) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readHeader(file: RangedFile): Promise<Omit<GgufFile, 'path' | 'close'>> {
  const reader = new GgufReader(file);
  await checkMagic(file, reader);
  const version = await readVersion(file, reader);
  const tensorCount = await reader.count('count of tensors', minTensorBytes);
  const metadata = await readMetadata(reader, await reader.count('count of metadata', minMetadataBytes));
  const alignmentBytes = alignmentOf(reader, metadata);
  const infos: TensorInfo[] = [];
  for (let index = 0; index < tensorCount; index++) infos.push(await readTensorInfo(reader, index));
  const dataOffsetBytes = Math.ceil(reader.position / alignmentBytes) * alignmentBytes;
  const tensors = new Map<string, StoredTensor>();
  for (const info of infos) {
    if (tensors.has(info.name)) throw reader.damaged(`tensor ${info.name} is there twice`);
    if (info.offsetBytes % alignmentBytes !== 0) {
      throw reader.damaged(
        `tensor ${info.name}: needed an offset that is a multiple of ${alignmentBytes} B, found ${info.offsetBytes}`,
      );
    }
    tensors.set(info.name, {
      ...info,
      file,
      offsetBytes: dataOffsetBytes + info.offsetBytes,
      sizeBytes: sizeOf(reader, info),
    });
  }
  checkExtents(tensors.values());
  return { version, metadata, alignmentBytes, dataOffsetBytes, tensors };
}

async function checkMagic(file: RangedFile, reader: GgufReader): Promise<void> {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(await reader.uint32('magic'));
  if (bytes.toString('latin1') === 'GGUF') return;
  const found = JSON.stringify(bytes.toString('latin1'));
  throw new EngineError(
    'BAD_WEIGHTS',
    `${file.path}: no GGUF file: it should begin with "GGUF" and begins with ${found}`,
    { path: file.path, found },
  );
}

async function readVersion(file: RangedFile, reader: GgufReader): Promise<number> {
  const version = await reader.uint32('version');
  if (version === 2 || version === 3) return version;
  const found = version !== 0 && (version & 0xffff) === 0 ? 'a big-endian file' : `version ${version}`;
  throw new EngineError(
    'UNSUPPORTED',
    `${file.path}: GGUF: found ${found}; supported are little-endian files of version 2 or 3, convert the model again`,
    {
      path: file.path,
      version,
    },
  );
}

async function readMetadata(reader: GgufReader, count: number): Promise<ReadonlyMap<string, GgufValue>> {
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const key = await reader.text(`key ${index} of the metadata`);
    if (metadata.has(key)) throw reader.damaged(`metadata ${key} is there twice`);
    metadata.set(key, await reader.value(await reader.uint32(`metadata ${key}`), `metadata ${key}`));
  }
  return metadata;
}

function alignmentOf(reader: GgufReader, metadata: ReadonlyMap<string, GgufValue>): number {
  const found = metadata.get('general.alignment') ?? defaultAlignmentBytes;
  if (typeof found === 'number' && found > 0 && Number.isInteger(Math.log2(found))) return found;
  throw reader.damaged(`general.alignment: needed a power of two, found ${found}`);
}

interface TensorInfo {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly number[];
  readonly offsetBytes: number;
}

async function readTensorInfo(reader: GgufReader, index: number): Promise<TensorInfo> {
  const name = await reader.text(`name of tensor ${index}`);
  const what = `tensor ${name}`;
  const dimensions = await reader.uint32(what);
  if (dimensions < 1 || dimensions > maxDimensions)
    throw reader.damaged(`${what}: needed 1 to ${maxDimensions} dimensions, found ${dimensions}`);
  const sizes: number[] = [];
  for (let dimension = 0; dimension < dimensions; dimension++) sizes.push(await reader.offset(what));
  if (!Number.isSafeInteger(sizes.reduce((product, size) => product * size, 1))) {
    throw reader.damaged(`${what}: shape (${sizes.join(', ')}) is beyond any file`);
  }
  const type = await reader.uint32(what);
  const offsetBytes = await reader.offset(what);
  return { name, type: typeNames.get(type) ?? `number ${type}`, shape: sizes.reverse(), offsetBytes };
}

/** @returns bytes; 0 for types that cannot be read, whose size is not known. */
function sizeOf(reader: GgufReader, { name, type, shape }: TensorInfo): number {
  const format = blockFormats.get(type);
  if (format === undefined) return 0;
  const rowValues = shape[shape.length - 1]!;
  if (rowValues % format.valuesPerBlock !== 0) {
    throw reader.damaged(
      `tensor ${name}: rows of ${type} hold a multiple of ${format.valuesPerBlock} values, found ${rowValues}`,
    );
  }
  const values = shape.reduce((product, size) => product * size, 1);
  return (values / format.valuesPerBlock) * format.bytesPerBlock;
}
