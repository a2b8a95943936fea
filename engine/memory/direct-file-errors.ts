/** What a disk can answer, as errors that say what to do. */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EngineError } from '../errors.js';

/** @returns bytes that this user may still write to the file system of `path`. */
export async function freeDiskBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** @throws OUT_OF_MEMORY (tier disk) if the file system of `path` has less than `needBytes` left. */
export async function requireDisk(path: string, needBytes: number): Promise<void> {
  const freeBytes = await freeDiskBytes(dirname(path));
  if (needBytes > freeBytes) throw diskFull(path, needBytes, freeBytes);
}

/** The error of a failed open. */
export function openError(path: string, cause: unknown): EngineError {
  const reason = reasonOf(cause);
  return new EngineError(
    'BAD_INPUT',
    `${path}: cannot be opened (${reason}); check the path and its permissions`,
    { path, reason },
    { cause },
  );
}

/** The error of a failed read of `what`. */
export function readError(path: string, what: string, cause: unknown): EngineError {
  const reason = reasonOf(cause);
  return new EngineError(
    'BAD_WEIGHTS',
    `${path}: ${what}: cannot be read (${reason}); check the disk`,
    { path, what, reason },
    { cause },
  );
}

/** The error of a failed write of `needBytes`. */
export async function writeError(path: string, needBytes: number, cause: unknown): Promise<EngineError> {
  const reason = reasonOf(cause);
  if (fullReasons.includes(reason)) return diskFull(path, needBytes, await freeDiskBytes(dirname(path)), cause);
  return new EngineError(
    'BAD_INPUT',
    `${path}: cannot be written (${reason}); check the disk and the permissions, or choose another directory`,
    { path, reason },
    { cause },
  );
}

export function reasonOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

/** No space, no quota, or above the size that a file may have. */
const fullReasons = ['ENOSPC', 'EDQUOT', 'EFBIG'];

function diskFull(path: string, needBytes: number, freeBytes: number, cause?: unknown): EngineError {
  return new EngineError(
    'OUT_OF_MEMORY',
    `disk tier: ${path}: need ${needBytes} B, ${freeBytes} B free; free some space or choose a directory on another disk`,
    { tier: 'disk', needBytes, freeBytes, path },
    cause === undefined ? undefined : { cause },
  );
}
