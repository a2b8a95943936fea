/**
 * Files that exist completely or not at all.
 *
 * Bytes go to a temporary name in the directory of the file, are flushed to the disk, and take the file's name in
 * one step: after a crash at any moment a reader finds the old file, the new one, or none, never a part of one.
 */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { InputError } from './errors.js';

/** Writes `bytes` to `path`; its directory is made where it is missing. */
export function writeFileAtomic(path: string, bytes: string | Uint8Array): void {
  const file = openAtomic(path);
  try {
    file.write(typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes);
    file.commit();
  } finally {
    file.discard();
  }
}

/** A file being written; it has its name only after `commit`. Call `discard` in any case: after `commit` it does nothing. */
export interface AtomicFile {
  write(bytes: Uint8Array): void;
  commit(): void;
  discard(): void;
}

/**
 * Opens a file for writing in pieces. What an earlier, killed writer of the same file left behind is removed, so two
 * processes must not write one file at the same time.
 *
 * @param workplace where it is written, on the same file system; default: beside it. Exists; without it nothing is written.
 * @throws InputError where the directory cannot be written or the disk is full; nothing is left behind.
 */
export function openAtomic(path: string, workplace = dirname(path)): AtomicFile {
  const directory = dirname(path);
  const temporary = join(workplace, `${temporaryPrefix(path)}${process.pid}`);
  const fd = explained(path, () => {
    makeDirectory(directory);
    removeLeftovers(path);
    return openSync(temporary, 'wx');
  });
  let open = true;
  let pending = true;
  const close = () => {
    if (open) closeSync(fd);
    open = false;
  };
  return {
    write: (bytes) => explained(path, () => writeAll(fd, bytes)),
    commit() {
      explained(path, () => {
        fsyncSync(fd);
        close();
        renameSync(temporary, path);
        pending = false;
        syncDirectory(directory);
      });
    },
    discard() {
      close();
      if (pending) rmSync(temporary, { force: true });
      pending = false;
    },
  };
}

/**
 * Makes a directory and those above it that are missing.
 *
 * Not Node's own `recursive`: on a read-only file system that says a directory is missing, and under /proc it never ends.
 */
export function makeDirectory(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (isDirectory(path)) return;
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || isDirectory(dirname(path))) throw error;
    makeDirectory(dirname(path));
    makeDirectory(path);
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function temporaryPrefix(path: string): string {
  return `.${basename(path)}.tmp-`;
}

function removeLeftovers(path: string): void {
  const directory = dirname(path);
  for (const name of readdirSync(directory)) {
    if (name.startsWith(temporaryPrefix(path))) rmSync(join(directory, name), { force: true });
  }
}

/** One call of write may take fewer bytes than it is given. */
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let offset = 0; offset < bytes.length; ) offset += writeSync(fd, bytes, offset, bytes.length - offset);
}

/** Makes the new name itself durable. Windows cannot open a directory, and keeps names durable by itself. */
function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return;
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: 'the directory cannot be written to; change its permissions or choose another run directory',
  EPERM: 'the directory cannot be written to; change its permissions or choose another run directory',
  ENOENT: 'no directory can be made there, or it was removed meanwhile; choose another run directory',
  EROFS: 'the file system is read-only; choose another run directory',
  ENOSPC: 'the disk is full; free some space and run the same command again',
  EFBIG: 'the file is too large for this file system or for the limit of the shell (ulimit -f); make smaller shards',
  EDQUOT: 'the disk quota is used up; free some space and run the same command again',
  ENOTDIR: 'a part of the path is a file, not a directory; choose another run directory',
  EEXIST: 'a part of the path is a file, not a directory; choose another run directory',
  EISDIR: 'a directory has this name; move it or choose another run directory',
  ENAMETOOLONG: 'the name is too long for this file system; shorten the run directory or the name of the task',
};

/** Does what writes to `path`; what the system refuses becomes an InputError that says what to do. */
export function explained<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    const reason = reasons[(error as NodeJS.ErrnoException).code ?? ''];
    if (reason === undefined) throw error;
    throw new InputError(`cannot write ${path}: ${reason}`, { cause: error });
  }
}
