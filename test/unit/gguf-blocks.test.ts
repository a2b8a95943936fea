import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { blockFormats } from '../../engine/model/gguf-blocks.js';

interface Recorded {
  readonly type: string;
  readonly ggmlType: number;
  readonly valuesPerBlock: number;
  readonly bytesPerBlock: number;
  readonly blocks: number;
  readonly values: number;
  readonly input: string;
  readonly expected: string;
}

// The compiled test lies in dist/test/unit; fixtures are not compiled.
const directory = fileURLToPath(new URL('../../../test/fixtures/gguf-dequant/', import.meta.url));
const recorded: readonly Recorded[] = JSON.parse(readFileSync(`${directory}index.json`, 'utf8')).types;

describe('block formats', () => {
  it.each(recorded)('$type gives the values that the gguf package gives, bit by bit', (entry) => {
    const format = blockFormats.get(entry.type)!;
    const { ggmlType, valuesPerBlock, bytesPerBlock } = entry;
    expect(format).toMatchObject({ ggmlType, valuesPerBlock, bytesPerBlock });
    const values = new Float32Array(entry.values);
    format.dequantise(readFileSync(directory + entry.input), 0, values, 0, entry.blocks);
    expect(firstDifference(bitsOf(values), bitsOf(readFloats(directory + entry.expected)))).toBeUndefined();
  });

  it.each(recorded)('$type starts at any byte and writes at any element, and nowhere else', (entry) => {
    const source = Buffer.concat([Buffer.from([1, 2, 3]), readFileSync(directory + entry.input)]);
    const values = new Float32Array(2 * entry.valuesPerBlock + 2).fill(7);
    blockFormats.get(entry.type)!.dequantise(source, 3 + 8 * entry.bytesPerBlock, values, 1, 2);
    const expected = readFloats(directory + entry.expected).subarray(
      8 * entry.valuesPerBlock,
      10 * entry.valuesPerBlock,
    );
    expect(firstDifference(bitsOf(values), bitsOf(Float32Array.of(7, ...expected, 7)))).toBeUndefined();
  });
});

function readFloats(path: string): Float32Array {
  return new Float32Array(new Uint8Array(readFileSync(path)).buffer);
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function firstDifference(found: Uint32Array, expected: Uint32Array): string | undefined {
  if (found.length !== expected.length) return `${found.length} values instead of ${expected.length}`;
  const index = found.findIndex((bits, at) => bits !== expected[at]);
  return index < 0 ? undefined : `value ${index}: bits ${found[index]} instead of ${expected[index]}`;
}
