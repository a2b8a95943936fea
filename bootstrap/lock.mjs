/**
 * One process at a time: a lock file that names its owner, and outlives no owner.
 *
 * Two clones share one cache and two terminals one clone; whoever comes second waits, and then finds the work done.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MILLISECONDS = 200;
/** Another host's process cannot be asked whether it lives; no step takes this long. */
const FOREIGN_STALE_MILLISECONDS = 3_600_000;

/**
 * Calls `act` while holding `path`.
 * @param onWait called once, with the owner's process id, if another process holds the lock.
 */
export async function withLock(path, act, onWait = () => {}) {
  mkdirSync(dirname(path), { recursive: true });
  const owner = `${process.pid} ${hostname()}\n`;
  for (let waited = false; !acquire(path, owner); ) {
    if (breakStale(path)) continue;
    if (!waited) onWait(readOwner(path)?.pid);
    waited = true;
    await sleep(POLL_MILLISECONDS);
  }
  const release = () => {
    if (readText(path) === owner) rmSync(path, { force: true });
  };
  process.once('exit', release);
  try {
    return await act();
  } finally {
    process.removeListener('exit', release);
    release();
  }
}

/** The lock gets its content before its name, so that no reader sees it without an owner. */
function acquire(path, owner) {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, owner);
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    return false;
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Removes a lock whose owner is gone; whether it was worth trying again at once. */
function breakStale(path) {
  const seen = readText(path);
  if (seen === undefined) return true;
  if (!isStale(path, readOwner(path))) return false;
  // Renamed before it is removed: had someone else broken it and locked anew, the new lock is put back.
  const moved = `${path}.stale-${process.pid}`;
  try {
    renameSync(path, moved);
    if (readText(moved) !== seen) linkSync(moved, path);
  } catch (error) {
    if (error.code !== 'ENOENT' && error.code !== 'EEXIST') throw error;
  } finally {
    rmSync(moved, { force: true });
  }
  return true;
}

function isStale(path, owner) {
  if (owner === undefined) return true;
  if (owner.host === hostname()) return !isAlive(owner.pid);
  const modified = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return Date.now() - modified > FOREIGN_STALE_MILLISECONDS;
}

function readOwner(path) {
  const match = /^(\d+) (\S*)\n$/.exec(readText(path) ?? '');
  return match ? { pid: Number(match[1]), host: match[2] } : undefined;
}

function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

export function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
