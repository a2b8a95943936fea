/**
 * A model file read by byte range.
 *
 * The bytes arrive in the caller's own array, so no more of a file is in memory than what is being read.
 */
import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { EngineError } from '../errors.js';

export interface RangedFile {
  readonly path: string;
  readonly sizeBytes: number;
  /**
   * Fills `target` from `offsetBytes` on.
   * @param what the object being read, for the message.
   * @throws BAD_WEIGHTS if the file ends before.
   */
  read(offsetBytes: number, target: Uint8Array, what: string): Promise<void>;
  close(): Promise<void>;
}

/** Node refuses to read 2 GiB or more at once. */
const maxReadBytes = 2 ** 30;

/** @throws BAD_INPUT if there is no such file or it cannot be read. */
export async function openRangedFile(path: string): Promise<RangedFile> {
  const handle = await openHandle(path);
  try {
    const status = await handle.stat();
    if (!status.isFile())
      throw new EngineError('BAD_INPUT', `${path}: needed a file, found a directory or device`, { path });
    return {
      path,
      sizeBytes: status.size,
      read: (offsetBytes, target, what) => readFully(handle, path, offsetBytes, target, what),
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openHandle(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new EngineError(
      'BAD_INPUT',
      `${path}: cannot be opened (${reason}); check the path and its permissions`,
      { path },
      { cause: error },
    );
  }
}

async function readFully(
  handle: FileHandle,
  path: string,
  offsetBytes: number,
  target: Uint8Array,
  what: string,
): Promise<void> {
  let filled = 0;
  while (filled < target.length) {
    const { bytesRead } = await handle.read(
      target,
      filled,
      Math.min(maxReadBytes, target.length - filled),
      offsetBytes + filled,
    );
    if (bytesRead === 0) {
      throw new EngineError(
        'BAD_WEIGHTS',
        `${path}: ${what}: needed ${target.length} B at offset ${offsetBytes}, found ${filled} B; the file is truncated, fetch it again`,
        { path, what, offsetBytes, neededBytes: target.length, foundBytes: filled },
      );
    }
    filled += bytesRead;
  }
}
