/**
 * How far the attempt under way has come, marked after every sweep: so the next one can say what was lost with it.
 *
 * A few bytes in place, not flushed: they outlive the process, if not the machine.
 */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Marks } from './generation.js';

const NAME = 'progress';
const fields = ['attempt', 'sweeps', 'promptTokens', 'generatedTokens'] as const satisfies (keyof Marks)[];

export interface ProgressFile {
  mark(marks: Marks): void;
  close(): void;
}

/** A new file: whoever still holds that of an earlier attempt marks nothing here. */
export function openProgress(directory: string): ProgressFile {
  const path = join(directory, NAME);
  rmSync(path, { force: true });
  const descriptor = openSync(path, 'w');
  return {
    mark(marks) {
      const numbers = Float64Array.from(fields, (field) => marks[field]);
      writeSync(descriptor, numbers, 0, numbers.byteLength, 0);
    },
    close: () => closeSync(descriptor),
  };
}

/** What the attempt before had come to; undefined where none is known. */
export function readProgress(directory: string): Marks | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(directory, NAME));
  } catch {
    return undefined;
  }
  if (bytes.length !== fields.length * Float64Array.BYTES_PER_ELEMENT) return undefined;
  const numbers = fields.map((field, i) => [field, bytes.readDoubleLE(i * Float64Array.BYTES_PER_ELEMENT)] as const);
  if (!numbers.every(([, number]) => Number.isSafeInteger(number) && number >= 0)) return undefined;
  return Object.fromEntries(numbers) as unknown as Marks;
}
