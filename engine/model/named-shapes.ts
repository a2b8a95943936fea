/**
 * Shapes of published models, by name: enough to measure an engine with random weights, without a download.
 *
 * Sources: the models' own config.json files; OPT's sizes are Table 1 of its paper (arXiv 2205.01068).
 */
import { EngineError } from '../errors.js';
import type { ModelConfig } from './config.js';
import { tensorShapes } from './shapes.js';

/** In the order in which they are listed to people. */
export const namedShapes: ReadonlyMap<string, ModelConfig> = new Map([
  ['opt-125m', opt(12, 768, 12)],
  ['opt-1.3b', opt(24, 2048, 32)],
  ['opt-2.7b', opt(32, 2560, 32)],
  ['opt-6.7b', opt(32, 4096, 32)],
  ['opt-13b', opt(40, 5120, 40)],
  ['opt-30b', opt(48, 7168, 56)],
  ['opt-66b', opt(64, 9216, 72)],
  ['opt-175b', opt(96, 12288, 96)],
  ['llama-1.1b', llama2(22, 2048, [32, 4], 5632, 2048)],
  ['llama-2-7b', llama2(32, 4096, [32, 32], 11008, 4096)],
  ['llama-2-13b', llama2(40, 5120, [40, 40], 13824, 4096)],
  ['llama-2-70b', llama2(80, 8192, [64, 8], 28672, 4096)],
  ['llama-3-8b', llama3(32, 4096, [32, 8], 14336)],
  ['llama-3-70b', llama3(80, 8192, [64, 8], 28672)],
  ['qwen3-0.6b', { ...qwen3(28, 1024, [16, 8], 3072), tiedEmbeddings: true }],
  ['qwen3-1.7b', { ...qwen3(28, 2048, [16, 8], 6144), tiedEmbeddings: true }],
  ['qwen3-4b', { ...qwen3(36, 2560, [32, 8], 9728), tiedEmbeddings: true }],
  ['qwen3-8b', qwen3(36, 4096, [32, 8], 12288)],
  ['qwen3-14b', qwen3(40, 5120, [40, 8], 17408)],
  ['qwen3-32b', qwen3(64, 5120, [64, 8], 25600)],
  [
    'qwen3-30b-a3b',
    {
      ...qwen3(48, 2048, [32, 4], 768),
      family: 'qwen3_moe',
      experts: { count: 128, perToken: 8, renormalised: true },
    },
  ],
]);

/** @throws BAD_INPUT, with the names there are. */
export function namedShape(name: string): ModelConfig {
  const config = namedShapes.get(name);
  if (config !== undefined) return config;
  const known = [...namedShapes.keys()];
  throw new EngineError(
    'BAD_INPUT',
    `no model shape is called ${JSON.stringify(name)}; choose among ${known.join(', ')}`,
    {
      found: name,
      known,
    },
  );
}

/** Weights and biases; a tied head counts once. */
export function numParameters(config: ModelConfig): number {
  let parameters = 0;
  for (const [, shape] of tensorShapes(config)) parameters += shape.reduce((product, size) => product * size, 1);
  return parameters;
}

function opt(numLayers: number, hiddenSize: number, numHeads: number): ModelConfig {
  return {
    family: 'opt',
    numLayers,
    hiddenSize,
    embeddingSize: hiddenSize,
    numHeads,
    numKvHeads: numHeads,
    headDim: hiddenSize / numHeads,
    ffnSize: 4 * hiddenSize,
    vocabSize: 50272,
    maxPositions: 2048,
    norm: { kind: 'layer', eps: 1e-5, placement: 'pre' },
    finalNorm: true,
    ffn: { kind: 'plain', activation: 'relu' },
    positions: { kind: 'learned', offset: 2 },
    bias: { qkv: true, output: true, ffn: true },
    tiedEmbeddings: true,
    bosTokenId: 2,
    eosTokenIds: [2],
  };
}

type Heads = readonly [queries: number, keys: number];

/** Llama 2 and TinyLlama, which share a vocabulary. */
function llama2(
  numLayers: number,
  hiddenSize: number,
  [numHeads, numKvHeads]: Heads,
  ffnSize: number,
  maxPositions: number,
): ModelConfig {
  const headDim = hiddenSize / numHeads;
  return {
    family: 'llama',
    numLayers,
    hiddenSize,
    embeddingSize: hiddenSize,
    numHeads,
    numKvHeads,
    headDim,
    ffnSize,
    vocabSize: 32000,
    maxPositions,
    norm: { kind: 'rms', eps: 1e-5, placement: 'pre' },
    finalNorm: true,
    ffn: { kind: 'gated', activation: 'silu' },
    positions: { kind: 'rotary', theta: 10000, rotaryDim: headDim },
    bias: { qkv: false, output: false, ffn: false },
    tiedEmbeddings: false,
    bosTokenId: 1,
    eosTokenIds: [2],
  };
}

function llama3(numLayers: number, hiddenSize: number, heads: Heads, ffnSize: number): ModelConfig {
  const older = llama2(numLayers, hiddenSize, heads, ffnSize, 8192);
  return {
    ...older,
    vocabSize: 128256,
    positions: { kind: 'rotary', theta: 500000, rotaryDim: older.headDim },
    bosTokenId: 128000,
    eosTokenIds: [128001, 128009],
  };
}

/** Heads are 128 wide whatever the hidden size. */
function qwen3(numLayers: number, hiddenSize: number, heads: Heads, ffnSize: number): ModelConfig {
  const older = llama2(numLayers, hiddenSize, heads, ffnSize, 40960);
  return {
    ...older,
    family: 'qwen3',
    headDim: 128,
    vocabSize: 151936,
    norm: { ...older.norm, eps: 1e-6 },
    positions: { kind: 'rotary', theta: 1e6, rotaryDim: 128 },
    attention: { queryKeyNorm: true },
    bosTokenId: 151643,
    eosTokenIds: [151645, 151643],
  };
}
