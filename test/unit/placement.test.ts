import { describe, expect, it } from 'vitest';
import { packedRowBytes } from '../../engine/memory/packed.js';
import { type Fractions, placeWeights } from '../../engine/memory/placement.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { layerTensors, numSteps } from '../../engine/model/layers.js';
import { namedShape } from '../../engine/model/named-shapes.js';

const llama = namedShape('llama-1.1b');
const opt = namedShape('opt-30b');

function place(
  config: ModelConfig,
  fractions: Fractions,
  options: { computeTier?: 'gpu' | 'cpu'; partBytes?: number } = {},
) {
  return placeWeights(config, {
    fractions,
    computeTier: 'gpu',
    partBytes: 8 * 2 ** 20,
    rowBytes: (layer, name) => packedRowBytes('float16', shapeOf(config, layer, name)[1]!),
    ...options,
  });
}

function shapeOf(config: ModelConfig, layer: number, name: string) {
  return layerTensors(config, layer).find((tensor) => tensor.name === name)!.shape;
}

/** Every matrix that a sweep reads whole, as the model's own description says. */
function matrices(config: ModelConfig) {
  return Array.from({ length: numSteps(config) }, (_, layer) => layer)
    .slice(1)
    .flatMap((layer) => layerTensors(config, layer).map(({ name, shape }) => ({ layer, name, shape })))
    .filter(({ shape, name }) => shape.length === 2 && name !== 'project');
}

describe('placement', () => {
  it.each([
    ['FlexGen asked for 20 %, and got 8.3', opt, { gpu: 0.2, cpu: 0.8, disk: 0 }],
    ['all three tiers', opt, { gpu: 0.13, cpu: 0.51, disk: 0.36 }],
    ['a sliver on the gpu', llama, { gpu: 0.011, cpu: 0.3, disk: 0.689 }],
    ['a third each', llama, { gpu: 1 / 3, cpu: 1 / 3, disk: 1 / 3 }],
    ['all on disk', llama, { gpu: 0, cpu: 0, disk: 1 }],
  ])('gives each tier its fraction to 1 %%: %s', (_, config, asked) => {
    const placed = { gpu: 0, cpu: 0, disk: 0 };
    let total = 0;
    const { homes, fractions } = place(config, asked);
    for (const { layer, name, shape } of matrices(config)) {
      const { gpu, cpu, rows } = homes(layer, name);
      expect(rows).toBe(shape[0]);
      placed.gpu += gpu * shape[1]!;
      placed.cpu += (cpu - gpu) * shape[1]!;
      placed.disk += (rows - cpu) * shape[1]!;
      total += rows * shape[1]!;
    }
    for (const tier of ['gpu', 'cpu', 'disk'] as const) {
      expect(Math.abs(placed[tier] / total - asked[tier])).toBeLessThan(0.01);
      expect(fractions[tier]).toBeCloseTo(placed[tier] / total, 12);
    }
  });

  it('carries what rounding leaves over, so that no prefix of the model is far from the fraction either', () => {
    const { homes } = place(llama, { gpu: 0.011, cpu: 0, disk: 0.989 });
    let [placed, total] = [0, 0];
    for (const { layer, name, shape } of matrices(llama)) {
      placed += homes(layer, name).gpu * shape[1]!;
      total += shape[0]! * shape[1]!;
      // Half a group of the widest pair of matrices.
      expect(Math.abs(placed - 0.011 * total)).toBeLessThanOrEqual(64 * 5632);
    }
  });

  it('leaves no row elsewhere where one tier has everything, also if matrices are no whole groups of rows', () => {
    const ragged = { ...llama, ffnSize: 150, vocabSize: 140 };
    const { fractions, parts } = place(ragged, { gpu: 0, cpu: 1, disk: 0 }, { computeTier: 'cpu' });
    expect(fractions).toEqual({ gpu: 0, cpu: 1, disk: 0 });
    expect(parts).toEqual([]);
  });

  it('streams every row that does not live where it is computed, once, in the order of use', () => {
    const { parts, homes } = place(llama, { gpu: 0.3, cpu: 0.3, disk: 0.4 });
    for (const { layer, name } of matrices(llama)) {
      const own = parts.filter((part) => part.layer === layer && part.tensor === name);
      const { gpu, cpu, rows } = homes(layer, name);
      expect(own[0]?.rowStart ?? rows).toBe(gpu);
      expect(own.at(-1)?.rowEnd ?? rows).toBe(rows);
      own.forEach(({ rowStart, rowEnd, home }, i) => {
        expect(rowEnd).toBe(own[i + 1]?.rowStart ?? rows);
        expect(home).toBe(rowStart < cpu ? 'cpu' : 'disk');
      });
    }
    const layers = parts.map(({ layer }) => layer);
    expect(layers).toEqual([...layers].sort((a, b) => a - b));
    const pairs = parts.filter(({ tensor }) => tensor === 'gate' || tensor === 'up');
    pairs.forEach((part, i) => {
      expect(part.tensor).toBe(i % 2 === 0 ? 'gate' : 'up');
      if (i % 2 === 1) expect(part.rowStart).toBe(pairs[i - 1]!.rowStart);
    });
  });

  it('cuts parts at whole groups of rows, no larger than asked where a group is not', () => {
    const partBytes = 2 ** 20;
    const { parts } = place(llama, { gpu: 0, cpu: 0, disk: 1 }, { partBytes });
    for (const { layer, tensor, rowStart, rowEnd } of parts) {
      const rowBytes = 2 * shapeOf(llama, layer, tensor)[1]!;
      expect(rowStart % 64).toBe(0);
      expect((rowEnd - rowStart) * rowBytes).toBeLessThanOrEqual(Math.max(partBytes, 64 * rowBytes));
    }
  });
});
