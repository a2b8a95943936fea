/**
 * Option values as commander reads them: a wrong one is refused with what was found and what is allowed.
 */
import { InvalidArgumentError } from 'commander';
import type { ComputeBits } from '../engine/backends/backend.js';
import type { WeightBits } from '../engine/policy/policy.js';

/** A whole number of at least `least`. */
export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`It must be a whole number of at least ${least}.`);
  };
}

/** A TCP port. */
export function portNumber(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port;
  throw new InvalidArgumentError('It must be a port, 1 to 65535.');
}

/** A number within [least, most]. */
export function numberBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && value >= least && value <= most) return value;
    throw new InvalidArgumentError(
      most === Number.POSITIVE_INFINITY
        ? `It must be a number of at least ${least}.`
        : `It must be between ${least} and ${most}.`,
    );
  };
}

/** Token ids, as `1,2,3`. */
export function tokenIds(text: string): number[] {
  const words = text.split(',').map((word) => word.trim());
  if (words.every((word) => /^\d+$/.test(word))) return words.map(Number);
  throw new InvalidArgumentError('It must be token ids with commas between them, such as 1,2,3.');
}

/** Of the weights in an offload store. */
export function weightBits(text: string): WeightBits {
  const bits = ([4, 8, 16, 32] as const).find((known) => text === `${known}`);
  if (bits !== undefined) return bits;
  throw new InvalidArgumentError('It must be 4, 8, 16 or 32.');
}

/** Of the products. */
export function computeBits(text: string): ComputeBits {
  const bits = ([8, 32] as const).find((known) => text === `${known}`);
  if (bits !== undefined) return bits;
  throw new InvalidArgumentError('It must be 8 or 32.');
}

/** For options that may be given several times. */
export function collected(text: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), text];
}

/** `\n`, `\t` and `\\` in what was typed, since a shell makes it hard to type them. */
export function unescaped(text: string): string {
  const meanings: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '\\': '\\' };
  return text.replace(/\\([ntr\\])/g, (_, letter: string) => meanings[letter]!);
}
