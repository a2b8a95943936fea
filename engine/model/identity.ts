/**
 * A model's identity: SHA-256 over every file that can change an answer.
 *
 * Hashing a large model takes minutes, so the sum of each file is kept in a cache directory, under what changes when the
 * file does: its path, size, modification time and inode.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rename, stat, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { EngineError } from '../errors.js';
import { isRecord, readJson } from './json.js';

const cacheName = 'model-sha256.json';

/** @returns SHA-256, in hex, over the files' names and sums; of one file, its own sum. */
export async function identityOf(paths: readonly string[], cacheDir: string | undefined): Promise<string> {
  const cache = cacheDir === undefined ? new Map<string, string>() : await readCache(cacheDir);
  const known = cache.size;
  const sums: (readonly [string, string])[] = [];
  for (const path of [...paths].sort()) sums.push([basename(path), await sumOf(path, cache)]);
  if (cacheDir !== undefined && cache.size > known) await writeCache(cacheDir, cache);
  if (sums.length === 1) return sums[0]![1];
  const hash = createHash('sha256');
  for (const [name, sum] of sums) hash.update(`${sum}  ${name}\n`);
  return hash.digest('hex');
}

async function sumOf(path: string, cache: Map<string, string>): Promise<string> {
  const { size, mtimeNs, ino } = await stat(path, { bigint: true });
  const key = [resolve(path), size, mtimeNs, ino].join('|');
  const cached = cache.get(key);
  if (cached !== undefined) return cached;
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  const sum = hash.digest('hex');
  cache.set(key, sum);
  return sum;
}

/** An unreadable cache counts as empty: it only saves time. */
async function readCache(cacheDir: string): Promise<Map<string, string>> {
  const stored = await readJson(join(cacheDir, cacheName)).catch(() => undefined);
  const entries = isRecord(stored) ? Object.entries(stored) : [];
  return new Map(entries.filter((entry): entry is [string, string] => /^[0-9a-f]{64}$/.test(String(entry[1]))));
}

async function writeCache(cacheDir: string, cache: ReadonlyMap<string, string>): Promise<void> {
  const path = join(cacheDir, cacheName);
  const temporary = `${path}.${randomUUID()}`;
  try {
    await mkdir(cacheDir, { recursive: true });
    await writeFile(temporary, `${JSON.stringify(Object.fromEntries(cache), undefined, 1)}\n`);
    await rename(temporary, path);
  } catch (error) {
    throw new EngineError(
      'BAD_INPUT',
      `${path}: cannot be written (${(error as Error).message}); make ${cacheDir} writable`,
      { path },
      { cause: error },
    );
  }
}
