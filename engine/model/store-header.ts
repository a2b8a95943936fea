/** `store.json`: what a store holds, with sums over it and over every region of `weights.bin`. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../errors.js';
import type { ModelConfig } from './config.js';
import { identityOf } from './identity.js';
import { isRecord, readJsonObject } from './json.js';
import type { StoreFormat, StorePlanTensor, StoreRegion } from './store.js';
import { STORE_VERSION, storeFiles } from './store.js';

export interface SummedRegion extends StoreRegion {
  readonly sha256: string;
}

export type StoreTensor = StorePlanTensor<SummedRegion>;

/** A file that the store was made from, as it then was. */
export interface SourceFile {
  readonly path: string;
  readonly bytes: number;
  readonly mtimeMs: number;
}

export interface StoreHeader {
  /** Hex; begins `weights.bin` too, so that the two cannot be taken from different stores. */
  readonly id: string;
  readonly format: StoreFormat;
  readonly config: ModelConfig;
  /** Whether the form changed no value, so that the store answers exactly as its source. */
  readonly lossless: boolean;
  readonly source: { readonly identity: string; readonly files: readonly SourceFile[] };
  /** Of `weights.bin`. */
  readonly bytes: number;
  readonly tensors: readonly StoreTensor[];
}

/** Begins `weights.bin`, before the store's id. */
export const dataMagic = 'ZIGZAG01';

/** A store that changed a value is another model than its source. */
export function storeIdentity({ lossless, format, source }: StoreHeader): string {
  if (lossless) return source.identity;
  return createHash('sha256').update(`${source.identity} ${format} ${STORE_VERSION}\n`).digest('hex');
}

export function serialiseHeader(header: StoreHeader): string {
  const store = JSON.stringify(header);
  return `{"kind":"zigzag-store","version":${STORE_VERSION},"sha256":"${sumOf(store)}",\n"store":${store}}\n`;
}

/** @throws BAD_INPUT if there is no store or it is of another version; BAD_WEIGHTS if its header is damaged. */
export async function readHeader(directory: string): Promise<StoreHeader> {
  const path = join(directory, storeFiles.header);
  const json = await readJsonObject(path);
  if (json === undefined) {
    throw new EngineError(
      'BAD_INPUT',
      `${directory}: no ${storeFiles.header}; this is no offload store, or one whose import did not end: import the model again`,
      { path },
    );
  }
  if (json.kind !== 'zigzag-store' || !isRecord(json.store)) {
    throw new EngineError('BAD_WEIGHTS', `${path}: not the header of an offload store; import the model again`, {
      path,
    });
  }
  if (json.version !== STORE_VERSION) {
    throw new EngineError(
      'BAD_INPUT',
      `${path}: a store of version ${json.version}, this program reads version ${STORE_VERSION}; import the model again`,
      { path, found: json.version, needed: STORE_VERSION },
    );
  }
  // Parsing and writing again gives the same text, as the keys keep their order.
  const found = sumOf(JSON.stringify(json.store));
  if (found !== json.sha256) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${path}: its SHA-256 should be ${json.sha256} and is ${found}; the file was damaged or edited, import the model again`,
      { path, needed: json.sha256, found },
    );
  }
  const header = json.store as unknown as StoreHeader;
  // JSON has no undefined.
  return { ...header, config: { ...header.config, bosTokenId: header.config.bosTokenId } };
}

/** What the source files are now. */
export async function describeFiles(paths: readonly string[]): Promise<SourceFile[]> {
  return Promise.all(
    paths.map(async (path) => {
      const { size, mtimeMs } = await stat(path);
      return { path, bytes: size, mtimeMs };
    }),
  );
}

/**
 * That the source is still what the store was made from. A source that is gone proves nothing: the store is whole by itself.
 * A file of the same size that is newer is read, since copying changes times.
 *
 * @throws BAD_INPUT if it is another one now.
 */
export async function checkSource(directory: string, header: StoreHeader, cacheDir: string | undefined): Promise<void> {
  const { files, identity } = header.source;
  const now = await describeFiles(files.map(({ path }) => path)).catch(() => undefined);
  if (now === undefined || files.every((file, i) => isSameFile(file, now[i]!))) return;
  const resized = files.find((file, i) => file.bytes !== now[i]!.bytes);
  if (
    resized === undefined &&
    (await identityOf(
      files.map(({ path }) => path),
      cacheDir,
    )) === identity
  )
    return;
  const path = (resized ?? files.find((file, i) => !isSameFile(file, now[i]!)))!.path;
  throw new EngineError(
    'BAD_INPUT',
    `${directory}: this store was made from another version of ${path}; import the model again`,
    { path: directory, source: path },
  );
}

export function isSameFile(a: SourceFile, b: SourceFile): boolean {
  return a.bytes === b.bytes && a.mtimeMs === b.mtimeMs;
}

function sumOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
