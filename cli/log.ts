/** What is too long for the terminal and too good to lose: one file a day in the cache. */
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory } from './bootstrap.js';

/** @returns the path of the log, or undefined where none can be written. */
export function appendLog(text: string): string | undefined {
  const directory = join(cacheDirectory(), 'logs');
  const path = join(directory, `${new Date().toISOString().slice(0, 10)}.log`);
  try {
    mkdirSync(directory, { recursive: true });
    appendFileSync(path, `${text}\n`);
    return path;
  } catch {
    return undefined;
  }
}
