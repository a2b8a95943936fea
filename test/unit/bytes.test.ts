import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { byteSize } from '../../cli/bytes.js';

describe('a size', () => {
  it.each([
    ['4096', 4096],
    ['1b', 1],
    ['550MB', 550_000_000],
    ['550 mb', 550_000_000],
    ['512KiB', 524_288],
    ['1k', 1_000],
    ['16GiB', 17_179_869_184],
    ['1GiB', 1_073_741_824],
    ['1.5g', 1_500_000_000],
    ['0.5Gi', 536_870_912],
    ['.5kb', 500],
    ['1.5TB', 1_500_000_000_000],
    ['2tib', 2_199_023_255_552],
    // A part of a byte is none.
    ['1.0009k', 1_000],
  ])('%s is so many bytes', (text, bytes) => {
    expect(byteSize(text)).toBe(bytes);
  });

  it.each(['', 'MB', '-1GB', '1e9', '10 GBs', '5ib', '1,5g', '0', '0.4', '9000000TB', 'much'])('%j is none', (text) => {
    expect(() => byteSize(text)).toThrow(InvalidArgumentError);
    expect(() => byteSize(text)).toThrow('such as 550MB, 16GiB or 1.5g');
  });
});
