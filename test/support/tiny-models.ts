/** Models small enough for hundreds of runs, with random weights large enough that no two logits are alike. */
import type { ModelConfig } from '../../engine/model/config.js';
import { dummyWeights } from '../../engine/model/dummy.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import type { WeightSource } from '../../engine/model/weights.js';

const llama: ModelConfig = {
  ...namedShape('llama-1.1b'),
  numLayers: 2,
  hiddenSize: 32,
  embeddingSize: 32,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 8,
  ffnSize: 150,
  vocabSize: 140,
  maxPositions: 96,
  positions: { kind: 'rotary', theta: 10000, rotaryDim: 8 },
  bosTokenId: 1,
  eosTokenIds: [2, 3, 5, 7, 11, 13],
};

const opt: ModelConfig = {
  ...namedShape('opt-125m'),
  numLayers: 2,
  hiddenSize: 32,
  embeddingSize: 32,
  numHeads: 2,
  numKvHeads: 2,
  headDim: 16,
  ffnSize: 70,
  vocabSize: 64,
  maxPositions: 96,
  eosTokenIds: [2, 3, 5, 7],
};

export const tinyModels: Readonly<Record<string, ModelConfig>> = {
  llama,
  /** One cell a sweep where there is one GPU batch: nothing else to hide a read behind. */
  'llama, one layer, tied head': {
    ...llama,
    numLayers: 1,
    hiddenSize: 16,
    embeddingSize: 16,
    numHeads: 2,
    numKvHeads: 1,
    ffnSize: 64,
    vocabSize: 64,
    tiedEmbeddings: true,
  },
  opt,
  'opt, norms after, narrow embeddings': {
    ...opt,
    embeddingSize: 16,
    norm: { ...opt.norm, placement: 'post' },
    finalNorm: false,
  },
  'windows, soft caps, norms around each half': {
    ...llama,
    numLayers: 3,
    norm: { ...llama.norm, placement: 'both' },
    ffn: { kind: 'gated', activation: 'geluTanh' },
    attention: {
      scale: 0.5,
      softcap: 6,
      queryKeyNorm: true,
      // Shorter than a block of the KV cache, and longer.
      layers: [{ window: 7, positions: { kind: 'rotary', theta: 100, rotaryDim: 8 } }, { window: 40 }, {}],
    },
    embeddingScale: 3,
    logitSoftcap: 9,
  },
  'parallel residual, biases everywhere': {
    ...llama,
    norm: { kind: 'layer', eps: 1e-5, placement: 'pre' },
    parallelResidual: true,
    ffn: { kind: 'gated', activation: 'gelu' },
    positions: { kind: 'rotary', theta: 10000, rotaryDim: 4 },
    bias: { qkv: true, output: true, ffn: true },
  },
  'experts, and a network for all': {
    ...llama,
    ffnSize: 70,
    experts: { count: 6, perToken: 2, renormalised: false, sharedSize: 130 },
  },
  experts: { ...llama, ffnSize: 64, experts: { count: 5, perToken: 3, renormalised: true } },
};

/** As dummy weights, but ten times as large: attention and logits then depend on every part of the cache. */
export function tinyWeights(config: ModelConfig): WeightSource {
  const source = dummyWeights(config, 7);
  return {
    ...source,
    async read(name, rowStart, rowEnd, into) {
      const values = await source.read(name, rowStart, rowEnd, into);
      if (!/norm\.weight$/i.test(name)) for (let i = 0; i < values.length; i++) values[i]! *= 10;
      return values;
    },
  };
}
