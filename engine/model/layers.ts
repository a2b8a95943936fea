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

/** What an expert is made of. */
export type ExpertPart = 'gate' | 'up' | 'down';
/** A matrix of one expert. */
export type ExpertTensorName = `experts.${number}.${ExpertPart}`;

/** Names within one layer. `qkv` joins query, key and value; `shared` is the share of the network beside the experts. */
export type TensorName =
  | ExpertTensorName
  | 'tokens'
  | 'positions'
  | 'project'
  | 'attentionNorm'
  | 'attentionNormBias'
  | 'attentionOutNorm'
  | 'attentionOutNormBias'
  | 'queryNorm'
  | 'keyNorm'
  | 'qkv'
  | 'qkvBias'
  | 'output'
  | 'outputBias'
  | 'ffnNorm'
  | 'ffnNormBias'
  | 'ffnOutNorm'
  | 'ffnOutNormBias'
  | 'router'
  | 'shared'
  | 'gate'
  | 'gateBias'
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

/** Small, used by every row and decisive for what is read next: these matrices stay in memory, at full precision. */
const routing: readonly TensorName[] = ['router', 'shared'];
/** Tables and projections of the ends of a model, which stay in memory too. */
const ends: readonly TensorName[] = ['positions', 'project'];

export function isRouting(name: TensorName): boolean {
  return routing.includes(name);
}

/** Whether rows of a decoder's or head's tensor may live elsewhere and stream by. */
export function mayStream({ name, shape }: StagedTensor): boolean {
  return shape.length === 2 && !routing.includes(name) && !ends.includes(name);
}

/** The expert that a tensor belongs to: it is read only where some row uses it. */
export function expertOf(name: TensorName): number | undefined {
  const expert = /^experts\.(\d+)\./.exec(name)?.[1];
  return expert === undefined ? undefined : Number(expert);
}

/** Width of the feed-forward network that every row uses; 0 where there are only experts. */
export function denseFfnSize({ experts, ffnSize }: ModelConfig): number {
  return experts ? (experts.sharedSize ?? 0) : ffnSize;
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
  const { hiddenSize, headDim, numHeads, bias, norm: norms, attention } = config;
  const qkvSize = queryKeySize(config) + valueSize(config);
  const named = (suffix: string, ...stems: string[]) => stems.map((stem) => `${prefix}${stem}.${suffix}`);
  const headNorm = (name: 'queryNorm' | 'keyNorm') => vector(name, named('weight', name), headDim);
  const outNorm = (name: 'attentionOutNorm' | 'ffnOutNorm') => norm(config, name, `${prefix}${name}`);
  return [
    ...norm(config, 'attentionNorm', `${prefix}attentionNorm`),
    matrix('qkv', named('weight', 'query', 'key', 'value'), qkvSize, hiddenSize),
    ...optional(bias.qkv, vector('qkvBias', named('bias', 'query', 'key', 'value'), qkvSize)),
    ...(attention?.queryKeyNorm ? [headNorm('queryNorm'), headNorm('keyNorm')] : []),
    matrix('output', named('weight', 'output'), hiddenSize, numHeads * headDim),
    ...optional(bias.output, vector('outputBias', named('bias', 'output'), hiddenSize)),
    ...(norms.placement === 'both' ? outNorm('attentionOutNorm') : []),
    ...norm(config, 'ffnNorm', `${prefix}ffnNorm`),
    ...denseTensors(config, prefix),
    ...expertTensors(config, prefix),
    ...(norms.placement === 'both' ? outNorm('ffnOutNorm') : []),
  ];
}

/** The feed-forward network that every row uses. */
function denseTensors(config: ModelConfig, prefix: string): StagedTensor[] {
  const { hiddenSize, bias, ffn } = config;
  const size = denseFfnSize(config);
  if (size === 0) return [];
  return [
    ...optional(ffn.kind === 'gated', matrix('gate', [`${prefix}gate.weight`], size, hiddenSize)),
    ...optional(ffn.kind === 'gated' && bias.ffn, vector('gateBias', [`${prefix}gate.bias`], size)),
    matrix('up', [`${prefix}up.weight`], size, hiddenSize),
    ...optional(bias.ffn, vector('upBias', [`${prefix}up.bias`], size)),
    matrix('down', [`${prefix}down.weight`], hiddenSize, size),
    ...optional(bias.ffn, vector('downBias', [`${prefix}down.bias`], hiddenSize)),
  ];
}

function expertTensors({ experts, hiddenSize, ffnSize }: ModelConfig, prefix: string): StagedTensor[] {
  if (!experts) return [];
  return [
    matrix('router', [`${prefix}router.weight`], experts.count, hiddenSize),
    ...optional(experts.sharedSize !== undefined, matrix('shared', [`${prefix}shared.weight`], 1, hiddenSize)),
    ...Array.from({ length: experts.count }, (_, expert) => {
      const part = (name: ExpertPart, rows: number, columns: number) =>
        matrix(`experts.${expert}.${name}`, [`${prefix}experts.${expert}.${name}.weight`], rows, columns);
      return [part('gate', ffnSize, hiddenSize), part('up', ffnSize, hiddenSize), part('down', hiddenSize, ffnSize)];
    }).flat(),
  ];
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

type NormName = 'attentionNorm' | 'attentionOutNorm' | 'ffnNorm' | 'ffnOutNorm' | 'norm';

function norm(config: ModelConfig, name: NormName, source: string): StagedTensor[] {
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
