/** One import into a directory at a time. */
import { join } from 'node:path';
import { EngineError } from '../errors.js';
import { tryLock } from '../file-lock.js';

export const lockName = 'import.lock';

/** @returns what gives it back. @throws BAD_INPUT, naming the owner, if another import holds it. */
export function lockStore(directory: string): () => void {
  const path = join(directory, lockName);
  const lock = tryLock(path);
  if ('release' in lock) return () => lock.release();
  const { pid, host } = lock;
  throw new EngineError(
    'BAD_INPUT',
    `${directory}: process ${pid ?? 'unknown'} on ${host} is importing a model there; wait for it, or remove ${path} if it is gone`,
    { path, pid, host },
  );
}
