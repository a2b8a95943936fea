/**
 * A model's identity: SHA-256 over every file that can change an answer.
 *
 * Hashing a large model takes minutes, so the sum of each file is kept in a cache directory, beside what changes when the
 * file does: its size, modification time and inode.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { EngineError } from '../errors.js';
import { isRecord, readJson } from './json.js';

const cacheName = 'model-sha256.json';

/** What is known of one file: its sum, and what changes when its bytes do. */
interface Known {
  readonly stamp: string;
  readonly sha256: string;
}

/** @returns SHA-256, in hex, over the files' names and sums; of one file, its own sum. */
export async function identityOf(paths: readonly string[], cacheDir: string | undefined): Promise<string> {
  const cache = cacheDir === undefined ? {} : await readCache(cacheDir);
  const learnt: Record<string, Known> = {};
  const sums: (readonly [string, string])[] = [];
  for (const path of [...paths].sort()) {
    const absolute = resolve(path);
    const stamp = await stampOf(absolute);
    const cached = Object.hasOwn(cache, absolute) ? cache[absolute] : undefined;
    const known = cached?.stamp === stamp ? cached : { stamp, sha256: await sumOf(absolute) };
    if (known !== cached) learnt[absolute] = known;
    sums.push([basename(absolute), known.sha256]);
  }
  if (cacheDir !== undefined && Object.keys(learnt).length > 0) await writeCache(cacheDir, { ...cache, ...learnt });
  if (sums.length === 1) return sums[0]![1];
  return createHash('sha256')
    .update(sums.map(([name, sum]) => `${sum}  ${name}\n`).join(''))
    .digest('hex');
}

async function stampOf(path: string): Promise<string> {
  const { size, mtimeNs, ino } = await stat(path, { bigint: true });
  return [size, mtimeNs, ino].join(' ');
}

async function sumOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}

/** An unreadable cache counts as empty: it only saves time. */
async function readCache(cacheDir: string): Promise<Readonly<Record<string, Known>>> {
  const stored = await readJson(join(cacheDir, cacheName)).catch(() => undefined);
  const entries = isRecord(stored) ? Object.entries(stored) : [];
  return Object.fromEntries(entries.filter((entry): entry is [string, Known] => isKnown(entry[1])));
}

function isKnown(value: unknown): value is Known {
  return isRecord(value) && typeof value.stamp === 'string' && /^[0-9a-f]{64}$/.test(String(value.sha256));
}

async function writeCache(cacheDir: string, cache: Readonly<Record<string, Known>>): Promise<void> {
  const path = join(cacheDir, cacheName);
  const temporary = `${path}.${randomUUID()}`;
  try {
    await mkdir(cacheDir, { recursive: true });
    await writeFile(temporary, `${JSON.stringify(cache, undefined, 1)}\n`);
    await rename(temporary, path);
  } catch (error) {
    // The first error is the one to tell.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new EngineError(
      'BAD_INPUT',
      `${path}: cannot be written (${(error as Error).message}); make ${cacheDir} writable`,
      { path },
      { cause: error },
    );
  }
}
