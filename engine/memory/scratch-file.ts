/** Files of a run that nobody else should see: without a name once they are open, so that nothing stays behind. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type DirectFile, type DirectOptions, openDirect } from './direct-file.js';

/** @throws BAD_INPUT if the directory cannot be written to */
export function openScratch(directory: string, what: string, options: DirectOptions = {}): DirectFile {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${what}-${process.pid}-${randomBytes(6).toString('hex')}.tmp`);
  const file = openDirect(path, 'create', options);
  unlinkSync(path);
  return file;
}
