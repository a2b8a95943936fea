/**
 * Who may write for a shard: one attempt at a time, and a later one takes it from an earlier one.
 *
 * The right is a directory, `checkpoints/SHARD/owner-TOKEN`, through which everything is written: checkpoints, and the
 * part, which is made there and moved. Taking over is to rename it, which the system does for one process only and in one
 * step; whatever the owner before still tries, its paths are gone. Tokens are the times at which the server gave the
 * attempts out, so a worker that was thought dead never takes a shard back.
 */
import { existsSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { explained, makeDirectory } from '../datasets/files.js';
import { EngineError } from '../engine/errors.js';

const DIRECTORY = 'checkpoints';

export interface Claim {
  /** Of this attempt alone, while it exists. */
  readonly directory: string;
  /** The same, relative to the run directory. */
  readonly path: string;
  readonly fencingToken: number;
  /**
   * Calls what writes by way of the directory.
   *
   * @throws EngineError CANCELLED where a later attempt has taken over; then nothing was written
   */
  write(act: () => void): void;
  /** The part is there: nothing more is to be kept. */
  release(): void;
}

/**
 * @param fencingToken larger than that of every earlier attempt at this shard
 * @throws EngineError CANCELLED where a later attempt has the shard
 * @throws InputError where the directory cannot be written
 */
export function claimShard(runDir: string, shardIndex: number, fencingToken: number): Claim {
  const shard = shardDirectory(runDir, shardIndex);
  const directory = join(shard, ownerName(fencingToken));
  explained(directory, () => takeOver(shard, fencingToken));
  return {
    directory,
    path: relative(runDir, directory),
    fencingToken,
    write(act) {
      if (!existsSync(directory)) throw lost(directory);
      try {
        act();
      } catch (error) {
        // Taken over in between: what was to be moved into place is elsewhere.
        throw existsSync(directory) ? error : lost(directory);
      }
    },
    release() {
      rmSync(directory, { recursive: true, force: true });
      removeIfEmpty(shard);
      removeIfEmpty(join(runDir, DIRECTORY));
    },
  };
}

/** Those of shards that were made anew are of no use. */
export function removeCheckpoints(runDir: string): void {
  rmSync(join(runDir, DIRECTORY), { recursive: true, force: true });
}

/** What an owner left that was killed after its part was there. */
export function removeClaims(runDir: string, shardIndex: number): void {
  rmSync(shardDirectory(runDir, shardIndex), { recursive: true, force: true });
  removeIfEmpty(join(runDir, DIRECTORY));
}

function shardDirectory(runDir: string, shardIndex: number): string {
  return join(runDir, DIRECTORY, String(shardIndex).padStart(5, '0'));
}

function takeOver(shard: string, token: number): void {
  for (;;) {
    const latest = ownersIn(shard)[0];
    if (latest === token) break;
    if (latest !== undefined && latest > token) throw laterOwner(join(shard, ownerName(latest)), token);
    // A first owner takes over from nobody, by the same step as any other.
    if (latest === undefined) makeDirectory(join(shard, ownerName(0)));
    else if (renamed(join(shard, ownerName(latest)), join(shard, ownerName(token)))) break;
  }
  for (const earlier of ownersIn(shard)) {
    if (earlier < token) rmSync(join(shard, ownerName(earlier)), { recursive: true, force: true });
  }
}

/** Tokens, the largest first. */
function ownersIn(shard: string): number[] {
  const names = existsSync(shard) ? readdirSync(shard) : [];
  const tokens = names.flatMap((name) => /^owner-(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  return tokens.sort((a, b) => b - a);
}

function ownerName(token: number): string {
  return `owner-${token}`;
}

/** @returns false where another process was faster. */
function renamed(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(code)) throw error;
  }
}

function lost(directory: string): EngineError {
  return new EngineError('CANCELLED', `${directory}: a later attempt has taken this shard over`, { directory });
}

function laterOwner(directory: string, token: number): EngineError {
  return new EngineError(
    'CANCELLED',
    `${directory}: a later attempt owns this shard (this one has the token ${token}); if no other worker computes this run, the server's clock was set back: remove the directory`,
    { directory, token },
  );
}
