/** Runs that are killed, and files that suffer. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Engine, EngineRequest } from '../../engine/requests.js';

/**
 * Computes with a checkpoint after every sweep, and copies its directory once so many sweeps are done: what a killed
 * process leaves on the disk, a file that is just being written included.
 *
 * @param from what an earlier process left; used up
 * @returns the copy; empty where the run ended before
 */
export async function killAfter(
  engine: Engine,
  requests: readonly EngineRequest[],
  afterSweeps: number,
  scratch: string,
  from?: string,
): Promise<string> {
  const directory = from ?? mkdtempSync(join(scratch, 'checkpoint-'));
  const kept = mkdtempSync(join(scratch, 'killed-'));
  const abort = new AbortController();
  // The first report is of what was found, before anything is computed.
  let sweeps = -1;
  const run = engine.run(requests, {
    checkpoint: { directory, fencingToken: 1, costShare: Number.POSITIVE_INFINITY },
    signal: abort.signal,
    onProgress: () => {
      if (++sweeps !== afterSweeps) return;
      cpSync(directory, kept, { recursive: true });
      abort.abort();
    },
  });
  await run.catch((error) => {
    if (error.code !== 'CANCELLED') throw error;
  });
  rmSync(directory, { recursive: true });
  return kept;
}

export interface Damage {
  /** Which of the files: any number. */
  readonly file: number;
  readonly how: 'cut' | 'flip' | 'lose';
  /** Where: any numbers. A file is cut at the first. */
  readonly at: readonly number[];
}

/** @returns the name of the file, or undefined where there is none */
export function damageFile(directory: string, { file, how, at }: Damage): string | undefined {
  const names = readdirSync(directory).sort();
  const name = names[file % Math.max(1, names.length)];
  if (name === undefined) return undefined;
  const path = join(directory, name);
  const bytes = readFileSync(path);
  const placeOf = (any: number) => (bytes.length === 0 ? 0 : any % bytes.length);
  if (how === 'lose') rmSync(path);
  else if (how === 'cut') writeFileSync(path, bytes.subarray(0, placeOf(at[0]!)));
  else if (bytes.length > 0) {
    for (const any of at) bytes[placeOf(any)]! ^= 1 << (any % 8);
    writeFileSync(path, bytes);
  }
  return name;
}
