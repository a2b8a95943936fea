/**
 * Weights in memory: every tensor of every layer, read once, dequantised to float32.
 *
 * Each tensor has a buffer of its own, so no single object holds the model; a tied head shares the embedding's.
 */
import type { LayerWeights } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { layerTensors, numSteps, type StagedTensor, type TensorName } from '../model/layers.js';
import type { WeightSource } from '../model/weights.js';
import { float32Matrix, type PackedMatrix, packedBytes } from './packed.js';

/** @returns by layer, embedding first and head last. */
export async function loadResident(config: ModelConfig, source: WeightSource): Promise<LayerWeights[]> {
  const loaded = new Map<string, PackedMatrix>();
  const layers: LayerWeights[] = [];
  for (let layer = 0; layer < numSteps(config); layer++) {
    const weights: Partial<Record<TensorName, PackedMatrix>> = {};
    for (const tensor of layerTensors(config, layer)) {
      const key = tensor.sources.join();
      const data = loaded.get(key) ?? (await readJoined(source, tensor));
      loaded.set(key, data);
      weights[tensor.name] = data;
    }
    layers.push(weights);
  }
  return layers;
}

/** What all layers hold together; a tied head counts once. */
export function residentBytes(layers: readonly LayerWeights[]): number {
  const all = layers.flatMap((layer) => Object.values(layer));
  const matrices = new Set(all.filter((matrix) => matrix !== undefined));
  return Array.from(matrices, packedBytes).reduce((sum, bytes) => sum + bytes, 0);
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
