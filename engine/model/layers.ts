/**
 * What a model computes, layer by layer: which tensors each layer reads and how they are put together.
 *
 * Layer 0 is the embedding, 1..numLayers are decoder layers, numLayers + 1 is the head. A staged tensor may join
 * several tensors of the file, row after row, so that one product serves them all.
 */
import type { ModelConfig } from './config.js';

/** One tensor as a backend takes it: rows of the named weights, joined in this order. */
export interface StagedTensor {
  readonly name: TensorName;
  /** Names of `WeightSource`. */
  readonly sources: readonly string[];
  /** (out, in) of the joined matrix, or (size). */
  readonly shape: readonly number[];
}

/** Names within one layer. `qkv` joins query, key and value. */
export type TensorName =
  | 'tokens'
  | 'positions'
  | 'project'
  | 'attentionNorm'
  | 'attentionNormBias'
  | 'qkv'
  | 'qkvBias'
  | 'output'
  | 'outputBias'
  | 'ffnNorm'
  | 'ffnNormBias'
  | 'gate'
  | 'up'
  | 'upBias'
  | 'down'
  | 'downBias'
  | 'norm'
  | 'normBias';

export type LayerKind = 'embed' | 'decoder' | 'head';

export function layerKind(config: ModelConfig, layer: number): LayerKind {
  if (layer === 0) return 'embed';
  return layer <= config.numLayers ? 'decoder' : 'head';
}

/** Embedding, decoder layers and head together. */
export function numSteps(config: ModelConfig): number {
  return config.numLayers + 2;
}

/** Width of the queries and keys of one row: they are rotated together. */
export function queryKeySize(config: ModelConfig): number {
  return (config.numHeads + config.numKvHeads) * config.headDim;
}

export function valueSize(config: ModelConfig): number {
  return config.numKvHeads * config.headDim;
}

/** The tensors that a layer reads, in the order in which they are used. */
export function layerTensors(config: ModelConfig, layer: number): StagedTensor[] {
  switch (layerKind(config, layer)) {
    case 'embed':
      return embedTensors(config);
    case 'decoder':
      return decoderTensors(config, `layers.${layer - 1}.`);
    case 'head':
      return headTensors(config);
  }
}

function embedTensors(config: ModelConfig): StagedTensor[] {
  const { vocabSize, embeddingSize, hiddenSize, positions, maxPositions } = config;
  const tensors = [matrix('tokens', ['embed.tokens.weight'], vocabSize, embeddingSize)];
  if (positions.kind === 'learned') {
    tensors.push(matrix('positions', ['embed.positions.weight'], maxPositions + positions.offset, hiddenSize));
  }
  if (embeddingSize !== hiddenSize) {
    tensors.push(matrix('project', ['embed.project.weight'], hiddenSize, embeddingSize));
  }
  return tensors;
}

function decoderTensors(config: ModelConfig, prefix: string): StagedTensor[] {
  const { hiddenSize, ffnSize, headDim, numHeads, bias, ffn } = config;
  const qkvSize = queryKeySize(config) + valueSize(config);
  const named = (suffix: string, ...stems: string[]) => stems.map((stem) => `${prefix}${stem}.${suffix}`);
  const tensors = [
    ...norm(config, 'attentionNorm', `${prefix}attentionNorm`),
    matrix('qkv', named('weight', 'query', 'key', 'value'), qkvSize, hiddenSize),
    ...optional(bias.qkv, vector('qkvBias', named('bias', 'query', 'key', 'value'), qkvSize)),
    matrix('output', named('weight', 'output'), hiddenSize, numHeads * headDim),
    ...optional(bias.output, vector('outputBias', named('bias', 'output'), hiddenSize)),
    ...norm(config, 'ffnNorm', `${prefix}ffnNorm`),
    ...optional(ffn.kind === 'gated', matrix('gate', named('weight', 'gate'), ffnSize, hiddenSize)),
    matrix('up', named('weight', 'up'), ffnSize, hiddenSize),
    ...optional(bias.ffn, vector('upBias', named('bias', 'up'), ffnSize)),
    matrix('down', named('weight', 'down'), hiddenSize, ffnSize),
    ...optional(bias.ffn, vector('downBias', named('bias', 'down'), hiddenSize)),
  ];
  return tensors;
}

function headTensors(config: ModelConfig): StagedTensor[] {
  const { embeddingSize, hiddenSize, vocabSize, finalNorm, tiedEmbeddings } = config;
  const tokens = tiedEmbeddings ? 'embed.tokens.weight' : 'head.tokens.weight';
  return [
    ...(finalNorm ? norm(config, 'norm', 'final.norm') : []),
    ...optional(embeddingSize !== hiddenSize, matrix('project', ['head.project.weight'], embeddingSize, hiddenSize)),
    matrix('tokens', [tokens], vocabSize, embeddingSize),
  ];
}

function norm(config: ModelConfig, name: 'attentionNorm' | 'ffnNorm' | 'norm', source: string): StagedTensor[] {
  const weight = vector(name, [`${source}.weight`], config.hiddenSize);
  if (config.norm.kind === 'rms') return [weight];
  return [weight, vector(`${name}Bias`, [`${source}.bias`], config.hiddenSize)];
}

function matrix(name: TensorName, sources: readonly string[], rows: number, columns: number): StagedTensor {
  return { name, sources, shape: [rows, columns] };
}

function vector(name: TensorName, sources: readonly string[], size: number): StagedTensor {
  return { name, sources, shape: [size] };
}

function optional(present: boolean, tensor: StagedTensor): StagedTensor[] {
  return present ? [tensor] : [];
}
