/** How fast this machine's disk reads and writes, as the engine does both: in parts, several at a time, past the page cache. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { alignedBuffer, viewOf } from './memory/aligned-buffer.js';
import { type DirectFile, openDirect } from './memory/direct-file.js';
import type { LinkRate } from './policy/hardware.js';
import { DEFAULT_BUFFERS, MAX_PART_BYTES } from './policy/policy.js';

export interface DiskRates {
  readonly diskRead: LinkRate;
  readonly diskWrite: LinkRate;
  readonly buffered: Readonly<Record<'diskRead' | 'diskWrite', number>>;
}

const PARTS = 32;
/** Each of the other way while both go on. */
const HALF = DEFAULT_BUFFERS / 2;

/** @throws OUT_OF_MEMORY (tier disk) if the directory has no room for a file of 256 MiB; it is removed afterwards. */
export async function measureDisk(directory: string, milliseconds: number): Promise<DiskRates> {
  const path = join(directory, `measure-${process.pid}.bin`);
  try {
    const direct = await withFile(path, true, async (file) => {
      const write = await moving(file, 'write', milliseconds);
      const read = await moving(file, 'read', milliseconds);
      const [readWhile, writeWhile] = await Promise.all([
        moving(file, 'read', milliseconds, HALF),
        moving(file, 'write', milliseconds, HALF),
      ]);
      return { read, write, readWhile, writeWhile };
    });
    const buffered = await withFile(path, false, async (file) => {
      const diskWrite = await moving(file, 'write', milliseconds);
      return { diskWrite, diskRead: await moving(file, 'read', milliseconds) };
    });
    return {
      diskRead: { alone: direct.read, together: direct.readWhile },
      diskWrite: { alone: direct.write, together: direct.writeWhile },
      buffered,
    };
  } finally {
    await rm(path, { force: true });
  }
}

async function withFile<Result>(
  path: string,
  direct: boolean,
  use: (file: DirectFile) => Promise<Result>,
): Promise<Result> {
  const file = openDirect(path, 'create', { direct });
  try {
    await file.reserve(PARTS * MAX_PART_BYTES);
    return await use(file);
  } finally {
    await file.close();
  }
}

/** Bytes a second of parts one after the other, round and round, the last of a writer's on the disk. */
async function moving(
  file: DirectFile,
  what: 'read' | 'write',
  milliseconds: number,
  parts = DEFAULT_BUFFERS,
): Promise<number> {
  const start = performance.now();
  const end = start + milliseconds;
  let moved = 0;
  const loop = async (part: Uint8Array) => {
    // The first round writes the whole file, so that reading finds it.
    do {
      const offset = (moved++ % PARTS) * MAX_PART_BYTES;
      if (what === 'read') await file.read(part, offset, 'parts for measuring the disk');
      else await file.write(part, offset);
    } while (performance.now() < end || (what === 'write' && moved < PARTS));
  };
  await Promise.all(Array.from({ length: parts }, () => loop(viewOf(alignedBuffer(MAX_PART_BYTES, file)))));
  if (what === 'write') await file.sync();
  return (moved * MAX_PART_BYTES) / ((performance.now() - start) / 1000);
}
