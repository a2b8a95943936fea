/**
 * What one process at a time may do: held by whoever made a file.
 *
 * The file names its owner, process and host, so that what a killed owner left behind is told from one that runs. Node
 * has no lock of the operating system's; making a file, and moving one, are steps that only one process can take.
 */
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { openError } from './memory/direct-file-errors.js';

export interface FileLock {
  /** Says that the owner is there. @returns false where another has taken the lock over */
  touch(): boolean;
  /** Gives it back, unless another has taken it over. */
  release(): void;
}

export interface LockOwner {
  /** Undefined where the file does not say. */
  readonly pid: string | undefined;
  readonly host: string;
}

/**
 * @param silentMilliseconds an owner that has not touched the lock for so long has lost it, though its process be there
 * @returns the lock, or whoever has it
 * @throws BAD_INPUT where the file cannot be made
 */
export function tryLock(path: string, silentMilliseconds = Number.POSITIVE_INFINITY): FileLock | LockOwner {
  const mine = `${process.pid} ${startOf(process.pid)} ${hostname()}\n`;
  // A second attempt follows only where a stale lock was put aside.
  for (const last of [false, true]) {
    if (make(path, mine)) return lockOf(path, mine);
    const owner = textOf(path);
    if (owner === undefined || (!last && isStale(path, owner, silentMilliseconds) && putAside(path, owner))) continue;
    return ownerOf(owner);
  }
  return ownerOf('');
}

function lockOf(path: string, mine: string): FileLock {
  const isMine = () => textOf(path) === mine;
  return {
    touch() {
      if (!isMine()) return false;
      utimesSync(path, new Date(), new Date());
      return true;
    },
    release() {
      if (isMine()) rmSync(path, { force: true });
    },
  };
}

function ownerOf(text: string): LockOwner {
  const [pid, , host] = text.trim().split(' ');
  return { pid: pid || undefined, host: host ?? 'this host' };
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

function isStale(path: string, owner: string, silentMilliseconds: number): boolean {
  const silence = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0);
  if (owner === '') return silence > NAMELESS_MILLISECONDS;
  if (silence > silentMilliseconds) return true;
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
