import { describe, expect, it } from 'vitest';
import { boundOf, hiddenFraction, neededRows, runFlops } from '../../engine/bound.js';
import { namedShape } from '../../engine/model/named-shapes.js';

// From the shapes: 22 layers of 2048 x (2048 + 2 x 256) queries, keys and values, 2048 x 2048 output, 3 x 2048 x 5632.
const LLAMA_LAYERS = 22 * (2048 * 2560 + 2048 * 2048 + 3 * 2048 * 5632);
const LLAMA_HEAD = 2048 * 32_000;
// 24 layers of 4 x 2048² attention and 2 x 2048 x 8192 feed-forward.
const OPT_LAYERS = 24 * (4 * 2048 ** 2 + 2 * 2048 * 8192);
const OPT_HEAD = 2048 * 50_272;

describe('the FLOPs of a run', () => {
  it.each([
    // One row attends to itself: two products of 64 values for each of 32 heads.
    ['llama-1.1b', 1, 1, 2 * (LLAMA_LAYERS + LLAMA_HEAD + 22 * 32 * 2 * 64)],
    // 128 + 15 rows are computed, 16 tokens chosen; row i attends to i rows.
    ['llama-1.1b', 128, 16, 2 * (143 * LLAMA_LAYERS + 16 * LLAMA_HEAD + 22 * 32 * 2 * 64 * ((143 * 144) / 2))],
    ['opt-1.3b', 512, 32, 2 * (543 * OPT_LAYERS + 32 * OPT_HEAD + 24 * 32 * 2 * 64 * ((543 * 544) / 2))],
  ])('%s, %i prompt tokens, %i generated', (shape, promptTokens, generatedTokens, flops) => {
    expect(runFlops(namedShape(shape), [{ promptTokens, generatedTokens }])).toBe(flops);
  });

  it('of several sequences are those of each', () => {
    const config = namedShape('opt-125m');
    const [a, b] = [
      { promptTokens: 7, generatedTokens: 3 },
      { promptTokens: 20, generatedTokens: 1 },
    ];
    expect(runFlops(config, [a, b])).toBe(runFlops(config, [a]) + runFlops(config, [b]));
  });
});

describe('a bound', () => {
  it.each([
    ['arithmetic', 600, 10, 3],
    ['moving', 100, 80, 4],
    ['arithmetic where nothing moves', 200, 0, 1],
  ])('is the time of %s', (_, flops, bytes, seconds) => {
    expect(boundOf(flops, bytes, { flopsPerSecond: 200, diskBytesPerSecond: 20 }).seconds).toBe(seconds);
  });
});

it.each([
  ['all of it, where nothing was waited for', 0, 2, 1],
  ['half of it', 1, 2, 0.5],
  ['none of it', 2, 2, 0],
  ['none of it, where waiting took longer than moving alone', 5, 2, 0],
  ['all of it, where nothing moved', 0.1, 0, 1],
])('hidden I/O time is %s', (_, waitSeconds, ioSeconds, fraction) => {
  expect(hiddenFraction(waitSeconds, ioSeconds)).toBe(fraction);
});

it.each([
  [10, 1, 10],
  [10, 5, 14],
  [10, 0, 10],
])('a prompt of %i tokens with %i generated needs %i rows', (promptTokens, generatedTokens, rows) => {
  expect(neededRows({ promptTokens, generatedTokens })).toBe(rows);
});
