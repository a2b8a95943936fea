import { describe, expect, it } from 'vitest';
import { activate, erf, softcapped } from '../../engine/backends/formulas.js';

describe('erf', () => {
  // Abramowitz and Stegun, Table 7.1.
  it.each([
    [0, 0],
    [0.02, 0.0225645747],
    [0.5, 0.5204998778],
    [1, 0.8427007929],
    [1.5, 0.9661051465],
    [2, 0.995322265],
    [-1, -0.8427007929],
    [5.9, 1],
    [40, 1],
  ])('of %f is %f', (x, expected) => expect(erf(x)).toBeCloseTo(expected, 9));
});

describe('an activation', () => {
  // By their definitions, in double precision, with the error function of the C library.
  it.each([
    ['gelu', 1, 0.8413447461],
    ['gelu', -0.5, -0.1542687694],
    ['geluTanh', 1, 0.8411919906],
    ['geluTanh', -0.5, -0.1542859902],
    ['silu', 1, 0.7310585786],
    ['relu', -1, 0],
  ] as const)('%s of %f is %f', (activation, x, expected) => expect(activate(activation, x)).toBeCloseTo(expected, 8));
});

describe('a soft cap', () => {
  it('keeps small values, and bounds large ones', () => {
    expect(softcapped(0.01, 30)).toBeCloseTo(0.01, 7);
    expect(softcapped(1e6, 30)).toBe(30);
    expect(softcapped(-45, 30)).toBeCloseTo(-30 * Math.tanh(1.5), 12);
    expect(softcapped(1e6, undefined)).toBe(1e6);
  });
});
