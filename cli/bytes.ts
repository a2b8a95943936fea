/** Sizes on the command line. */
import { InvalidArgumentError } from 'commander';
import { parseBytes, SIZE_FORM } from '../datasets/sizes.js';

/** For options whose value is a size. @returns bytes */
export function byteSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes !== undefined) return bytes;
  throw new InvalidArgumentError(`It must be ${SIZE_FORM}.`);
}
