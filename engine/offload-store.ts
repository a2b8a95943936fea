/**
 * Offload stores that the engine makes by itself: of a model that is none, once for each form, and of random weights.
 *
 * Each has a directory of its own, named after what it holds, so that the next run finds it.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { EngineError } from './errors.js';
import { dummyWeights } from './model/dummy.js';
import { namedShape } from './model/named-shapes.js';
import { type StoreFormat, storeFiles } from './model/store.js';
import { readHeader } from './model/store-header.js';
import { importModel } from './model/store-import.js';
import { openStore } from './model/store-read.js';
import { writeStore } from './model/store-write.js';
import type { WeightBits } from './policy/policy.js';

export const DEFAULT_WEIGHT_BITS: WeightBits = 16;

export interface OffloadStoreOptions {
  /** Where stores are made; default: below `cacheDir`. */
  readonly offloadDir?: string | undefined;
  readonly weightBits?: WeightBits | undefined;
  /** Where sums of model files are remembered; default: `zigzag` in the user's cache. */
  readonly cacheDir?: string | undefined;
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** Where stores, and files of a run, lie. */
export function offloadDirectory({ offloadDir, cacheDir }: OffloadStoreOptions): string {
  return offloadDir ?? join(cacheDir ?? join(homedir(), '.cache', 'zigzag'), 'offload');
}

/**
 * The model's offload store: itself, or one made of it. One of an older version of the model is made anew.
 *
 * @returns its directory
 * @throws BAD_INPUT if the model is a store of other bits than were asked for, and what `importModel` throws
 */
export async function offloadStoreOf(model: string, options: OffloadStoreOptions): Promise<string> {
  const format = storeFormat(options.weightBits ?? DEFAULT_WEIGHT_BITS);
  if (existsSync(join(model, storeFiles.header))) {
    if (options.weightBits !== undefined) await requireFormat(model, format);
    return model;
  }
  const key = createHash('sha256').update(resolve(model)).digest('hex').slice(0, 16);
  const directory = join(offloadDirectory(options), `${key}-${format}`);
  if (await opens(directory, options)) return directory;
  const { cacheDir, signal, onProgress } = options;
  await importModel(model, directory, {
    format,
    ...(cacheDir !== undefined && { cacheDir }),
    ...(signal && { signal }),
    ...(onProgress && { onProgress }),
  });
  return directory;
}

/**
 * A store of random weights of a named shape, the same for the same seed.
 *
 * @returns its directory
 * @throws BAD_INPUT if there is no such shape, and what `writeStore` throws
 */
export async function dummyStoreOf(shape: string, seed: number, options: OffloadStoreOptions): Promise<string> {
  const format = storeFormat(options.weightBits ?? DEFAULT_WEIGHT_BITS);
  const weights = dummyWeights(namedShape(shape), seed);
  const directory = join(offloadDirectory(options), `random-${shape}-${format}-${seed}`);
  if ((await opens(directory, options)) && (await readHeader(directory)).source.identity === weights.identity) {
    return directory;
  }
  const { signal, onProgress } = options;
  await writeStore(weights, directory, { format, ...(signal && { signal }), ...(onProgress && { onProgress }) });
  return directory;
}

/** @throws BAD_INPUT where no store has so many bits. */
export function storeFormat(bits: WeightBits): StoreFormat {
  const formats: Readonly<Record<WeightBits, StoreFormat>> = { 32: 'fp32', 16: 'fp16', 8: 'int8', 4: 'int4' };
  const format = formats[bits];
  if (format) return format;
  throw new EngineError('BAD_INPUT', `weights of ${bits} bits cannot be stored; choose 32, 16, 8 or 4`, { bits });
}

async function requireFormat(directory: string, format: StoreFormat): Promise<void> {
  const found = (await readHeader(directory)).format;
  if (found === format) return;
  throw new EngineError(
    'BAD_INPUT',
    `${directory}: this store holds ${found} weights, and ${format} was asked for; leave the bits out, or name the ` +
      'model that the store was made of',
    { path: directory, found, needed: format },
  );
}

async function opens(directory: string, { cacheDir }: OffloadStoreOptions): Promise<boolean> {
  if (!existsSync(join(directory, storeFiles.header))) return false;
  const store = await openStore(directory, cacheDir === undefined ? {} : { cacheDir }).catch(() => undefined);
  await store?.close();
  return store !== undefined;
}
