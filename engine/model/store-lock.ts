/**
 * One import into a directory at a time.
 *
 * The lock is a file that only one process can make. It names its owner, process and host, so that what a killed
 * import left behind is told from one that runs.
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { EngineError } from '../errors.js';
import { openError } from '../memory/direct-file-errors.js';

export const lockName = 'import.lock';

/** @returns what gives it back. @throws BAD_INPUT, naming the owner, if another import holds it. */
export function lockStore(directory: string): () => void {
  const path = join(directory, lockName);
  const mine = `${process.pid} ${startOf(process.pid)} ${hostname()}\n`;
  // A second attempt follows only where a stale lock was put aside.
  for (const last of [false, true]) {
    if (make(path, mine)) return () => rmSync(path, { force: true });
    const owner = textOf(path);
    if (owner === undefined || (!last && isStale(path, owner) && putAside(path, owner))) continue;
    const [pid, , host] = owner.trim().split(' ');
    throw new EngineError(
      'BAD_INPUT',
      `${directory}: process ${pid || 'unknown'} on ${host ?? 'this host'} is importing a model there; wait for it, or remove ${path} if it is gone`,
      { path, pid, host },
    );
  }
  throw new EngineError('BAD_INPUT', `${directory}: other processes are importing a model there; try again`, { path });
}

function make(path: string, owner: string): boolean {
  try {
    const descriptor = openSync(path, 'wx');
    writeSync(descriptor, owner);
    closeSync(descriptor);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw openError(path, error);
  }
}

/** Its owner writes its name right after making it, so an old lock without a name has lost its owner in between. */
const NAMELESS_MILLISECONDS = 10_000;

function isStale(path: string, owner: string): boolean {
  if (owner === '')
    return Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) > NAMELESS_MILLISECONDS;
  const [pid, start, host] = owner.trim().split(' ');
  if (host !== hostname()) return false;
  // A number is given to another process after a restart; the time of its start is not.
  return !isAlive(Number(pid)) || startOf(Number(pid)) !== start;
}

/** Moving is done by one process only; what it moved is looked at again, as it may be a new owner's. */
function putAside(path: string, owner: string): boolean {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch {
    return true;
  }
  const moved = textOf(aside);
  if (moved !== owner && moved !== undefined) {
    renameSync(aside, path);
    return false;
  }
  rmSync(aside, { force: true });
  return true;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When a process started, in the system's own count; `-` where that cannot be known. */
function startOf(pid: number): string {
  const text = textOf(`/proc/${pid}/stat`);
  // The program's name, in brackets, may hold spaces; the start is the 20th field behind it.
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '-';
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
