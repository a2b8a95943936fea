import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FLOAT16_MAX, fromFloat16, toFloat16 } from '../../engine/memory/float16.js';
import { dequantize, quantize, quantizedSizes } from '../../engine/memory/quantize.js';
import { FIXTURES } from '../support/golden.js';

interface Place {
  readonly offset: number;
  readonly shape: readonly number[];
}

interface Recorded {
  readonly about: string;
  readonly shape: readonly number[];
  readonly axis: number;
  readonly input: Place;
  readonly packed: Place;
  readonly scale: Place;
  readonly min: Place;
  readonly dequantised: Place;
  readonly constantGroups?: readonly (readonly [number, number])[];
  readonly compare?: string;
}

const directory = join(FIXTURES, 'flexgen-4bit');
const bytes = new Uint8Array(readFileSync(join(directory, 'data.bin')));
const cases = (JSON.parse(readFileSync(join(directory, 'index.json'), 'utf8')) as { cases: Recorded[] }).cases;
const exact = cases.filter(({ compare }) => compare === undefined);
const constant = cases.find(({ constantGroups }) => constantGroups !== undefined)!;
const overflow = cases.find(({ about }) => about.includes('overflows'))!;

describe('4-bit quantisation', () => {
  it('has a recorded case of every kind', () => {
    expect([exact.length, constant.shape, overflow.shape]).toEqual([10, [3, 192], [2, 64]]);
  });

  it.each(exact)('stores what FlexGen stores: $about, $shape along $axis', (recorded) => {
    const { data, scale, min } = quantize(floats(recorded.input), recorded.shape, recorded.axis, 4);
    expect(Array.from(data)).toEqual(Array.from(bytesOf(recorded.packed)));
    expect(Array.from(scale)).toEqual(Array.from(halves(recorded.scale)));
    expect(Array.from(min)).toEqual(Array.from(halves(recorded.min)));
  });

  it.each(exact)('reads what FlexGen stored: $about, $shape along $axis', (recorded) => {
    const { shape, axis: groupDim } = recorded;
    const arrays = { data: bytesOf(recorded.packed), scale: halves(recorded.scale), min: halves(recorded.min) };
    const values = dequantize({ bits: 4, shape, groupDim, ...arrays });
    expect(largestRelativeDifference(values, floats(recorded.dequantised))).toBeLessThanOrEqual(1e-6);
  });

  it('gives a constant group back as its constant, rounded to float16', () => {
    const values = roundTrip(constant);
    const expected = floats(constant.dequantised);
    for (const [row, group] of constant.constantGroups!) {
      const start = row * constant.shape[1]! + group * 64;
      expect(values.slice(start, start + 64)).toEqual(expected.slice(start, start + 64));
    }
  });

  it('keeps the values of a group whose scale would overflow float16, where FlexGen collapses it', () => {
    const input = floats(overflow.input);
    const values = roundTrip(overflow);
    for (let start = 0; start < input.length; start += 64) {
      const group = input.slice(start, start + 64);
      const min = Math.min(...group);
      // Half a step of the largest scale that float16 holds, and the rounding of the minimum.
      const allowed = 0.5 / FLOAT16_MAX + Math.abs(min) * 2 ** -11 + 1e-9;
      group.forEach((value, i) => {
        expect(Math.abs(values[start + i]! - value)).toBeLessThanOrEqual(allowed);
      });
    }
  });

  it.each([[4], [8]] as const)('of %i bits never yields a number that is not finite', (bits) => {
    const values = Float32Array.of(3e38, -3e38, 1e6, 0, -7e4, 1e-40, ...new Float32Array(58).fill(1));
    for (const shape of [
      [1, 64],
      [64, 1],
      [32, 2],
    ] as const) {
      const quantized = quantize(values, shape, shape[0] === 1 ? 1 : 0, bits);
      expect(dequantize(quantized).every(Number.isFinite)).toBe(true);
    }
  });
});

describe('8-bit quantisation', () => {
  it.each([
    ['rows of a matrix', [130, 7], 0],
    ['heads, one group each', [5, 3, 64], 2],
    ['heads of 80, two groups each', [4, 2, 80], 2],
    ['a dimension in the middle', [2, 70, 3], 1],
    ['a vector', [100], 0],
  ] as const)('is off by half a step at most, but for the ends of the range: %s', (_, shape, groupDim) => {
    const values = gaussian(shape.reduce((a, b) => a * b, 1));
    const quantized = quantize(values, shape, groupDim, 8);
    const { data, scale } = quantizedSizes(shape, groupDim, 8);
    expect([quantized.data.length, quantized.scale.length, quantized.min.length]).toEqual([data, scale, scale]);
    const found = dequantize(quantized);
    const inner = shape.slice(groupDim + 1).reduce((a: number, b: number) => a * b, 1);
    const size = shape[groupDim]!;
    const groups = Math.ceil(size / 64);
    values.forEach((value, index) => {
      const slab = Math.floor(index / (size * inner));
      const group = Math.floor((Math.floor(index / inner) % size) / 64);
      const place = (slab * groups + group) * inner + (index % inner);
      const step = 1 / fromFloat16(quantized.scale.subarray(place, place + 1))[0]!;
      const least = Math.abs(fromFloat16(quantized.min.subarray(place, place + 1))[0]!);
      // Rounding minimum and scale to float16 moves the ends of the range by up to this.
      const ends = least * 2 ** -11 + 255 * step * 2 ** -11;
      expect(Math.abs(found[index]! - value)).toBeLessThanOrEqual(step / 2 + ends);
    });
  });

  it('is sixteen times as fine as 4 bits', () => {
    const values = gaussian(64 * 256);
    const error = (bits: 4 | 8) => {
      const found = dequantize(quantize(values, [64, 256], 0, bits));
      return Math.sqrt(found.reduce((sum, value, i) => sum + (value - values[i]!) ** 2, 0) / values.length);
    };
    expect(error(4) / error(8)).toBeGreaterThan(15);
    expect(error(4) / error(8)).toBeLessThan(19);
  });
});

describe('a range of rows', () => {
  it.each([
    ['rows grouped', [200, 5], 0],
    ['heads grouped', [9, 2, 80], 2],
    ['the middle grouped', [4, 70, 3], 1],
  ] as const)('is a part of the whole, whichever range: %s', (_, shape, groupDim) => {
    const rowSize = shape.slice(1).reduce((a: number, b: number) => a * b, 1);
    for (const bits of [4, 8] as const) {
      const quantized = quantize(gaussian(shape[0] * rowSize), shape, groupDim, bits);
      const whole = dequantize(quantized);
      for (const [start, end] of [
        [0, 1],
        [1, 4],
        [2, 2],
        [shape[0] - 1, shape[0]],
        [0, shape[0]],
        [1, shape[0] - 1],
      ] as const) {
        expect(dequantize(quantized, { start, end })).toEqual(whole.slice(start * rowSize, end * rowSize));
      }
    }
  });

  it('outside the array is refused', () => {
    const quantized = quantize(gaussian(128), [64, 2], 0, 4);
    expect(() => dequantize(quantized, { start: 60, end: 65 })).toThrow('rows 60 to 65 of 64');
  });
});

describe('float16', () => {
  it('gives every float16 back as it was', () => {
    const all = Uint16Array.from({ length: 65536 }, (_, bits) => bits);
    const numbers = all.filter((bits) => (bits & 0x7c00) !== 0x7c00 || (bits & 0x3ff) === 0);
    expect(toFloat16(fromFloat16(numbers))).toEqual(numbers);
    expect(fromFloat16(toFloat16(Float32Array.of(Number.NaN)))).toEqual(Float32Array.of(Number.NaN));
  });

  it.each([
    ['one', 1, 0x3c00],
    ['a third', 1 / 3, 0x3555],
    ['the largest', 65504, 0x7bff],
    ['just below the tie with infinity', 65519.996, 0x7bff],
    ['the tie with infinity', 65520, 0x7c00],
    ['a tie, to even below', 1 + 2 ** -11, 0x3c00],
    ['a tie, to even above', 1 + 3 * 2 ** -11, 0x3c02],
    ['just above a tie', 1 + 2 ** -11 + 2 ** -23, 0x3c01],
    ['the smallest normal', 2 ** -14, 0x0400],
    ['rounded up to the smallest normal', 2 ** -14 - 2 ** -26, 0x0400],
    ['the smallest', 2 ** -24, 0x0001],
    ['half of the smallest, to even', 2 ** -25, 0x0000],
    ['just above half of the smallest', 2 ** -25 + 2 ** -40, 0x0001],
    ['a subnormal float32', 1e-40, 0x0000],
    ['minus zero', -0, 0x8000],
    ['minus infinity', Number.NEGATIVE_INFINITY, 0xfc00],
  ])('rounds to the nearest, ties to even: %s', (_, value, expected) => {
    expect(toFloat16(Float32Array.of(value))[0]).toBe(expected);
  });

  it('is nearer than its neighbours, wherever a value lies', () => {
    const values = gaussian(20000).map((value, i) => value * 2 ** ((i % 40) - 28));
    const bits = toFloat16(values);
    const [found, below, above] = [0, -1, 1].map((step) => fromFloat16(bits.map((half) => half + step)));
    values.forEach((value, i) => {
      const error = Math.abs(found![i]! - value);
      if ((bits[i]! & 0x7fff) > 0) expect(error).toBeLessThanOrEqual(Math.abs(below![i]! - value));
      expect(error).toBeLessThanOrEqual(Math.abs(above![i]! - value));
    });
  });
});

function roundTrip({ input, shape, axis }: Recorded): Float32Array {
  return dequantize(quantize(floats(input), shape, axis, 4));
}

function bytesOf({ offset, shape }: Place): Uint8Array {
  return bytes.subarray(offset, offset + count(shape));
}

function halves({ offset, shape }: Place): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset + offset, count(shape));
}

function floats({ offset, shape }: Place): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset + offset, count(shape));
}

function count(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

function largestRelativeDifference(found: Float32Array, expected: Float32Array): number {
  expect(found.length).toBe(expected.length);
  return found.reduce((worst, value, i) => {
    const difference = Math.abs(value - expected[i]!);
    return Math.max(worst, difference === 0 ? 0 : difference / Math.abs(expected[i]!));
  }, 0);
}

/** Normal values by Box and Muller's method, always the same. */
function gaussian(length: number): Float32Array {
  let state = 12345;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return Float32Array.from({ length }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}
