import { describe, expect, it } from 'vitest';
import { float32Matrix, type PackedMatrix, packedRowBytes, rowParts, widen } from '../../engine/memory/packed.js';
import { quantize } from '../../engine/memory/quantize.js';
import { mostPartBytes } from '../../engine/policy/policy.js';

const WIDTH = 6;

function matrix(type: 'float32' | 'int4', rows: number): PackedMatrix {
  const values = Float32Array.from({ length: rows * WIDTH }, (_, i) => Math.sin(i));
  const shape = [rows, WIDTH];
  return type === 'float32' ? float32Matrix(values, shape) : { type, shape, groups: quantize(values, shape, 0, 4) };
}

describe('the parts of a matrix', () => {
  it.each([
    ['float32', 200, 64 * 24, [64, 64, 64, 8]],
    ['float32', 200, 130 * 24, [128, 72]],
    ['float32', 64, 1e6, [64]],
    ['float32', 130, 1, [64, 64, 2]],
    ['int4', 200, 130 * packedRowBytes('int4', WIDTH), [128, 72]],
  ] as const)(
    'of %s with %i rows, %i B each, are whole groups and together the matrix',
    (type, rows, bytes, expected) => {
      const whole = matrix(type, rows);
      const parts = rowParts(whole, bytes);
      expect(parts.map(({ shape }) => shape)).toEqual(expected.map((count) => [count, WIDTH]));
      expect(parts.flatMap((part) => [...widen(part)])).toEqual([...widen(whole)]);
    },
  );

  it('have fewer bytes in fewer bits, since they are widened', () => {
    const [bits16, bits8, bits4] = (['float16', 'int8', 'int4'] as const).map(mostPartBytes) as [
      number,
      number,
      number,
    ];
    expect(bits16 / bits8).toBeCloseTo(2 / (1 + 1 / 16), 1);
    expect(bits16 / bits4).toBeCloseTo(2 / (0.5 + 1 / 16), 1);
  });
});
