import { describe, expect, it } from 'vitest';
import type { Backend, KeptLayer, LayerWeights } from '../../engine/backends/backend.js';
import { openOnnx } from '../../engine/backends/onnx.js';
import { openReference } from '../../engine/backends/reference.js';
import { openEngine } from '../../engine/engine.js';
import { float32Matrix } from '../../engine/memory/packed.js';
import { layerTensors } from '../../engine/model/layers.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { seededRandom } from '../../engine/model/random.js';

const config = {
  ...namedShape('opt-125m'),
  numLayers: 1,
  hiddenSize: 96,
  embeddingSize: 96,
  numHeads: 3,
  numKvHeads: 3,
};
const shape = { ...config, headDim: 32, ffnSize: 160 };
const random = seededRandom(7);
const values = (count: number, scale = 1) => Float32Array.from({ length: count }, () => scale * (random.next() - 0.5));

const weights: LayerWeights = Object.fromEntries(
  layerTensors(shape, 1).map(({ name, shape: sizes }) => [
    name,
    float32Matrix(
      values(sizes.reduce((a, b) => a * b)).map((value) => (name.endsWith('Norm') ? 1 + value : value)),
      sizes,
    ),
  ]),
);

/** Rows of very different magnitudes, as activations have. */
const ROWS = 20;
const hidden = Float32Array.from(values(ROWS * shape.hiddenSize), (value, i) => {
  const row = Math.floor(i / shape.hiddenSize);
  return value * 4 ** ((row % 7) - 3);
});
const attended = values(ROWS * shape.hiddenSize, 0.2);
const positions = Int32Array.from({ length: ROWS }, (_, row) => row);

async function keep(open: Promise<Backend>): Promise<{ layer: KeptLayer; close: () => Promise<void> }> {
  const backend = await open;
  return { layer: await backend.keep(0, weights), close: () => backend.close() };
}

/** The largest error of a row, relative to the row's own norm. */
function worstRow(found: Float32Array, expected: Float32Array): number {
  const width = expected.length / ROWS;
  const norm = (row: number, at: (i: number) => number) =>
    Math.sqrt(Array.from({ length: width }, (_, i) => at(row * width + i) ** 2).reduce((a, b) => a + b));
  const errors = Array.from({ length: ROWS }, (_, row) => {
    return norm(row, (i) => found[i]! - expected[i]!) / norm(row, (i) => expected[i]!);
  });
  return Math.max(...errors);
}

const bytes = await openOnnx(shape, { threads: 1, computeBits: 8 }).catch((error: unknown) => error as Error);

describe.skipIf(bytes instanceof Error)('products of 8 bits', () => {
  it('are within 2 % of the reference in every row, however small the row', async () => {
    const exact = await keep(openReference(shape, { threads: 1 }));
    const rounded = await keep(openOnnx(shape, { threads: 1, computeBits: 8 }));
    const expected = { ...(await exact.layer.project(hidden, positions)) };
    const found = { ...(await rounded.layer.project(hidden, positions)) };
    expect(worstRow(found.queryKey, expected.queryKey)).toBeLessThan(0.02);
    expect(worstRow(found.value, expected.value)).toBeLessThan(0.02);
    const finished = await exact.layer.finish(hidden, attended);
    expect(worstRow(await rounded.layer.finish(hidden, attended), finished)).toBeLessThan(0.02);
    await exact.close();
    await rounded.close();
  });

  it('give a row the same bits alone and in a batch', async () => {
    const { layer, close } = await keep(openOnnx(shape, { threads: 2, computeBits: 8 }));
    const { hiddenSize } = shape;
    const all = Float32Array.from(await layer.finish(hidden, attended));
    for (const row of [0, 9, ROWS - 1]) {
      const [start, end] = [row * hiddenSize, (row + 1) * hiddenSize];
      const alone = await layer.finish(hidden.slice(start, end), attended.slice(start, end));
      expect(alone).toEqual(all.slice(start, end));
    }
    await close();
  });

  it('are refused where weights come in pieces, before the model is looked for', async () => {
    const options = { model: 'none', backend: 'onnx', computeBits: 8, hostMemoryBytes: 1e9 } as const;
    await expect(openEngine(options)).rejects.toThrow(/not for an offload store .*; compute with 32 bits/);
  });

  it('are refused by a backend that has none', async () => {
    await expect(openReference(shape, { threads: 1, computeBits: 8 })).rejects.toThrow(/computes with 32 bits, not 8/);
  });
});
