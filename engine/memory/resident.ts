/**
 * Weights in memory: every tensor of every layer, read once, dequantised to float32.
 *
 * Each tensor has a buffer of its own, so no single object holds the model; a tied head shares the embedding's.
 */
import type { LayerWeights } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { layerTensors, numSteps, type StagedTensor, type TensorName } from '../model/layers.js';
import type { WeightSource } from '../model/weights.js';
import { float32Matrix, type PackedMatrix } from './packed.js';

/** @returns reads one step's weights: 0 is the embedding, the last the head. */
export function residentLoader(config: ModelConfig, source: WeightSource): (step: number) => Promise<LayerWeights> {
  let table: PackedMatrix | undefined;
  return async (step) => {
    const weights: Partial<Record<TensorName, PackedMatrix>> = {};
    for (const tensor of layerTensors(config, step)) {
      const tied = tensor.name === 'tokens' && config.tiedEmbeddings;
      const data = (tied && table) || (await readJoined(source, tensor));
      if (tied) table = data;
      weights[tensor.name] = data;
    }
    return weights;
  };
}

/** What all layers hold together; a tied head counts once. */
export function residentBytes(config: ModelConfig): number {
  const sizes = new Map<string, number>();
  for (let step = 0; step < numSteps(config); step++) {
    for (const { sources, shape } of layerTensors(config, step)) {
      sizes.set(
        sources.join(),
        shape.reduce((a, b) => a * b),
      );
    }
  }
  return [...sizes.values()].reduce((a, b) => a + b) * Float32Array.BYTES_PER_ELEMENT;
}

async function readJoined(source: WeightSource, { sources, shape }: StagedTensor): Promise<PackedMatrix> {
  const data = new Float32Array(shape.reduce((a, b) => a * b));
  let offset = 0;
  for (const name of sources) {
    const size = source.shape(name).reduce((a, b) => a * b);
    await source.read(name, undefined, undefined, data.subarray(offset, offset + size));
    offset += size;
  }
  return float32Matrix(data, shape);
}
