/**
 * Safetensors files: a length, a JSON header, then the tensors' bytes one after the other.
 *
 * Source: the format's description in github.com/huggingface/safetensors. The header is checked whole before a tensor is
 * read, since a file that was cut short or edited still begins with a plausible header.
 */
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { EngineError } from '../errors.js';
import { isRecord, readJson } from './json.js';
import type { RangedFile } from './ranged-file.js';
import { openRangedFile } from './ranged-file.js';
import type { StoredTensor, TensorFiles } from './tensors.js';
import { checkExtents } from './tensors.js';

const indexName = 'model.safetensors.index.json';
const singleName = 'model.safetensors';

/** The format's own limit. */
const maxHeaderBytes = 100_000_000;

/** Bits of each type the format knows; only some of them can be read (tensors.ts). */
const typeBits: Readonly<Record<string, number>> = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
  C64: 64,
};

/**
 * The weights of a model directory: the shards of its index, or its single file.
 *
 * @throws BAD_WEIGHTS for a shard or tensor that is missing or damaged; UNSUPPORTED where there is no safetensors file.
 */
export async function openSafetensorsDirectory(directory: string): Promise<TensorFiles> {
  const names = await readdir(directory);
  if (names.includes(indexName)) return openShards(directory);
  const files = names.filter((name) => name.endsWith('.safetensors'));
  const [only] = files.includes(singleName) ? [singleName] : files.length === 1 ? files : [];
  if (only !== undefined) return openSafetensorsFile(join(directory, only));
  if (files.length > 1) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${directory}: ${files.length} safetensors files and no ${indexName} to say which tensor lies in which; fetch the index`,
      { directory, files },
    );
  }
  throw new EngineError(
    'UNSUPPORTED',
    `${directory}: needed ${singleName}, ${indexName} or one GGUF file, found ${listed(names)}`,
    {
      directory,
      found: names,
    },
  );
}

/** @throws BAD_WEIGHTS naming the file, the tensor, what was needed and what was found. */
export async function openSafetensorsFile(path: string): Promise<TensorFiles> {
  const file = await openRangedFile(path);
  try {
    const tensors = await readHeader(file);
    return { path, tensors, close: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openShards(directory: string): Promise<TensorFiles> {
  const indexPath = join(directory, indexName);
  const weightMap = readWeightMap(indexPath, await readJson(indexPath));
  const shards = new Map<string, TensorFiles>();
  const close = async () => void (await Promise.all([...shards.values()].map((shard) => shard.close())));
  try {
    for (const name of new Set(weightMap.values())) shards.set(name, await openShard(directory, name));
    for (const [shardName, { tensors }] of shards) checkOwner(indexPath, weightMap, shardName, tensors.keys());
    const tensors = new Map<string, StoredTensor>();
    for (const [tensorName, shardName] of weightMap) {
      const tensor = shards.get(shardName)!.tensors.get(tensorName);
      if (tensor === undefined) {
        throw new EngineError(
          'BAD_WEIGHTS',
          `${indexPath}: tensor ${tensorName} should be in ${shardName}, which lacks it`,
          {
            path: indexPath,
            tensor: tensorName,
            shard: shardName,
          },
        );
      }
      tensors.set(tensorName, tensor);
    }
    return { path: directory, tensors, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** That no tensor of a shard is another's by the index: of two, nobody could say which is right. */
function checkOwner(
  path: string,
  weightMap: ReadonlyMap<string, string>,
  shard: string,
  names: Iterable<string>,
): void {
  for (const tensor of names) {
    const owner = weightMap.get(tensor);
    if (owner === undefined || owner === shard) continue;
    throw new EngineError(
      'BAD_WEIGHTS',
      `${path}: tensor ${tensor} should be in ${owner}, and is in ${shard} too; fetch the shards again`,
      { path, tensor, shards: [owner, shard] },
    );
  }
}

function readWeightMap(path: string, index: unknown): Map<string, string> {
  const map = isRecord(index) ? index.weight_map : undefined;
  if (!isRecord(map))
    throw new EngineError('BAD_WEIGHTS', `${path}: needed an object weight_map, found none`, { path });
  for (const [tensor, shard] of Object.entries(map)) {
    // A name is joined to the directory, so anything but a plain file name could read elsewhere.
    if (
      typeof shard !== 'string' ||
      shard !== basename(shard) ||
      shard.includes('\\') ||
      !shard.endsWith('.safetensors')
    ) {
      throw new EngineError(
        'BAD_WEIGHTS',
        `${path}: tensor ${tensor}: needed the name of a safetensors file in the same directory, found ${JSON.stringify(shard)}`,
        { path, tensor, shard },
      );
    }
  }
  return new Map(Object.entries(map) as [string, string][]);
}

async function openShard(directory: string, name: string): Promise<TensorFiles> {
  try {
    return await openSafetensorsFile(join(directory, name));
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== 'BAD_INPUT') throw error;
    const path = join(directory, name);
    throw new EngineError(
      'BAD_WEIGHTS',
      `${path}: this shard is named by ${indexName} and cannot be opened; fetch it`,
      { path },
      { cause: error },
    );
  }
}

async function readHeader(file: RangedFile): Promise<Map<string, StoredTensor>> {
  const prefix = new Uint8Array(8);
  await file.read(0, prefix, 'header length');
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (headerBytes > maxHeaderBytes || 8 + headerBytes > file.sizeBytes) {
    const room = Math.max(0, Math.min(maxHeaderBytes, file.sizeBytes - 8));
    throw damaged(
      file,
      `the header should have ${headerBytes} B, there is room for ${room} B; it is truncated or no safetensors file`,
    );
  }
  const bytes = new Uint8Array(headerBytes);
  await file.read(8, bytes, 'header');
  const header = parseHeader(file, bytes);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== '__metadata__') tensors.set(name, readEntry(file, name, entry, 8 + headerBytes));
  }
  checkExtents(tensors.values());
  const neededBytes = file.sizeBytes - 8 - headerBytes;
  const foundBytes = [...tensors.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (foundBytes !== neededBytes) {
    throw damaged(
      file,
      `the tensors take ${foundBytes} B of ${neededBytes} B; one is missing in the header, or there twice, fetch the file again`,
    );
  }
  return tensors;
}

function parseHeader(file: RangedFile, bytes: Uint8Array): Record<string, unknown> {
  try {
    const header: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (isRecord(header)) return header;
  } catch (error) {
    throw damaged(file, `the header is not JSON (${(error as Error).message})`);
  }
  throw damaged(file, 'the header is not a JSON object');
}

function readEntry(file: RangedFile, name: string, entry: unknown, dataStart: number): StoredTensor {
  const { dtype, shape, data_offsets: offsets } = isRecord(entry) ? entry : {};
  const bits = typeof dtype === 'string' && Object.hasOwn(typeBits, dtype) ? typeBits[dtype] : undefined;
  if (typeof dtype !== 'string' || bits === undefined) {
    throw damaged(
      file,
      `tensor ${name}: needed a type among ${Object.keys(typeBits).join(', ')}, found ${JSON.stringify(dtype)}`,
    );
  }
  if (!isCounts(shape))
    throw damaged(file, `tensor ${name}: needed a shape of whole numbers, found ${JSON.stringify(shape)}`);
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    throw damaged(file, `tensor ${name}: needed data_offsets [begin, end], found ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  const neededBytes = (shape.reduce((product, size) => product * size, 1) * bits) / 8;
  if (end - begin !== neededBytes) {
    throw damaged(
      file,
      `tensor ${name}: ${dtype} (${shape.join(', ')}) needs ${neededBytes} B, its offsets give ${end - begin} B`,
    );
  }
  return { name, file, type: dtype, shape, offsetBytes: dataStart + begin, sizeBytes: neededBytes };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);
}

function damaged(file: RangedFile, what: string): EngineError {
  return new EngineError('BAD_WEIGHTS', `${file.path}: ${what}`, { path: file.path, sizeBytes: file.sizeBytes });
}

function listed(names: readonly string[]): string {
  if (names.length === 0) return 'nothing';
  return names.length > 8 ? `${names.slice(0, 8).join(', ')} and ${names.length - 8} more` : names.join(', ');
}
