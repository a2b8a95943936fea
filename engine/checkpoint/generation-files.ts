/** The files of a generation, written so that they are there completely or not at all. */
import { open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { manifestName, numberOf } from './generation.js';

/** The last step of a generation: with its manifest it is there. */
export async function writeManifest(directory: string, generation: number, text: string): Promise<void> {
  const path = join(directory, manifestName(generation));
  await writeFlushed(`${path}.tmp`, new TextEncoder().encode(text));
  await rename(`${path}.tmp`, path);
  await flush(directory);
}

/** Removes checkpoint files that no generation needs any more. */
export async function removeAllBut(directory: string, kept: readonly string[]): Promise<void> {
  const names = await readdir(directory);
  const old = names.filter((name) => numberOf(name) !== undefined && !kept.includes(name));
  for (const name of old) await rm(join(directory, name), { force: true });
}

export async function writeFlushed(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes new names in a directory durable. Windows cannot open one, and keeps names durable by itself. */
async function flush(directory: string): Promise<void> {
  if (process.platform === 'win32') return;
  const file = await open(directory, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
