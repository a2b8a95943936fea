import { describe, expect, it } from 'vitest';
import { dummyWeights } from '../../engine/model/dummy.js';
import { namedShape } from '../../engine/model/named-shapes.js';

const config = namedShape('llama-1.1b');
const weights = dummyWeights(config, 7);

describe('dummy weights', () => {
  it('are spread like a normal distribution of deviation 0.02, without zeros', async () => {
    const values = await weights.read('layers.3.up.weight', 0, 100);
    const moment = (power: number) => values.reduce((sum, value) => sum + (value / 0.02) ** power, 0) / values.length;
    expect(moment(1)).toBeCloseTo(0, 2);
    expect(moment(2)).toBeCloseTo(1, 2);
    expect(moment(3)).toBeCloseTo(0, 1);
    // 3 for a normal distribution; three uniform numbers give 2.6.
    expect(moment(4)).toBeCloseTo(2.6, 1);
    expect(values.every((value) => value !== 0)).toBe(true);
    expect(new Set(values).size).toBeGreaterThan(5000);
  });

  it('of norms lie around one, without ones', async () => {
    const values = await weights.read('layers.0.attentionNorm.weight');
    expect(values.length).toBe(2048);
    expect(values.every((value) => value > 0.8 && value < 1.2 && value !== 1)).toBe(true);
    expect(new Set(values).size).toBeGreaterThan(1000);
  });

  it('are the same in whichever rows they are asked for', async () => {
    const whole = await weights.read('layers.21.key.weight');
    expectSame(await weights.read('layers.21.key.weight', 200, 256), whole.slice(200 * 2048));
    const into = new Float32Array(3 * 2048 + 5).fill(9);
    await weights.read('layers.21.key.weight', 5, 8, into);
    expectSame(into.slice(0, 3 * 2048), whole.slice(5 * 2048, 8 * 2048));
    expect(into.slice(3 * 2048)).toEqual(new Float32Array(5).fill(9));
  });

  it('are the same for the same seed, and others for another seed, tensor or row', async () => {
    const row = (seed: number, name: string, start: number) => dummyWeights(config, seed).read(name, start, start + 1);
    const first = await row(7, 'head.tokens.weight', 0);
    expect(await row(7, 'head.tokens.weight', 0)).toEqual(first);
    for (const other of [
      row(8, 'head.tokens.weight', 0),
      row(7, 'embed.tokens.weight', 0),
      row(7, 'head.tokens.weight', 1),
    ]) {
      const values = await other;
      const product = values.reduce((sum, value, i) => sum + value * first[i]!, 0) / (2048 * 0.02 ** 2);
      expect(Math.abs(product)).toBeLessThan(0.15);
    }
    expect(dummyWeights(config, 8).identity).not.toBe(weights.identity);
    expect(dummyWeights(config, 7).identity).toBe(weights.identity);
  });

  it('have the names and shapes of the model, and no others', async () => {
    expect(weights.shape('layers.0.key.weight')).toEqual([256, 2048]);
    expect(weights.names).toHaveLength(3 + 22 * 9);
    await expect(weights.read('layers.22.key.weight')).rejects.toThrow('no tensor layers.22.key.weight');
    await expect(weights.read('layers.0.key.weight', 250, 257)).rejects.toThrow('rows 250 to 257 of 256');
  });
});

/** By their bits: comparing many numbers one by one takes seconds. */
function expectSame(found: Float32Array, expected: Float32Array): void {
  expect(found.length).toBe(expected.length);
  expect(Buffer.compare(new Uint8Array(found.buffer), new Uint8Array(expected.buffer))).toBe(0);
}
