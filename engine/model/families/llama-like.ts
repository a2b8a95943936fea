/**
 * What Llama and the families that follow it have in common: root-mean-square norms, rotary positions, grouped queries, a
 * gated feed-forward network. Each family says what it does otherwise.
 */
import { EngineError } from '../../errors.js';
import type { ModelConfig, RopeScaling, Rotary } from '../config.js';
import type { Fields } from '../json.js';
import { fieldsOf, isRecord } from '../json.js';
import type { GgufFacts, Places } from './family.js';
import { activationOf, choice, quotient, unsupported } from './family.js';

/** Names in Hugging Face files. */
export const hfPlaces = {
  'embed.tokens': '{prefix}embed_tokens',
  'layers.{i}.attentionNorm': '{prefix}layers.{i}.input_layernorm',
  'layers.{i}.query': '{prefix}layers.{i}.self_attn.q_proj',
  'layers.{i}.key': '{prefix}layers.{i}.self_attn.k_proj',
  'layers.{i}.value': '{prefix}layers.{i}.self_attn.v_proj',
  'layers.{i}.queryNorm': '{prefix}layers.{i}.self_attn.q_norm',
  'layers.{i}.keyNorm': '{prefix}layers.{i}.self_attn.k_norm',
  'layers.{i}.output': '{prefix}layers.{i}.self_attn.o_proj',
  'layers.{i}.ffnNorm': '{prefix}layers.{i}.post_attention_layernorm',
  'layers.{i}.gate': '{prefix}layers.{i}.mlp.gate_proj',
  'layers.{i}.up': '{prefix}layers.{i}.mlp.up_proj',
  'layers.{i}.down': '{prefix}layers.{i}.mlp.down_proj',
  'final.norm': '{prefix}norm',
  'head.tokens': 'lm_head',
} as const satisfies Places;

/** What files put before them. */
export const hfPrefixes = ['model.', ''];

/** Names in GGUF files. */
export const ggufPlaces = {
  'embed.tokens': 'token_embd',
  'layers.{i}.attentionNorm': 'blk.{i}.attn_norm',
  'layers.{i}.query': 'blk.{i}.attn_q',
  'layers.{i}.key': 'blk.{i}.attn_k',
  'layers.{i}.value': 'blk.{i}.attn_v',
  'layers.{i}.queryNorm': 'blk.{i}.attn_q_norm',
  'layers.{i}.keyNorm': 'blk.{i}.attn_k_norm',
  'layers.{i}.output': 'blk.{i}.attn_output',
  'layers.{i}.ffnNorm': 'blk.{i}.ffn_norm',
  'layers.{i}.gate': 'blk.{i}.ffn_gate',
  'layers.{i}.up': 'blk.{i}.ffn_up',
  'layers.{i}.down': 'blk.{i}.ffn_down',
  'final.norm': 'output_norm',
  'head.tokens': 'output',
} as const satisfies Places;

/** What config.json says of a model like Llama. @param tied whether the head is tied where nothing is said of it */
export function parseHfDecoder(config: Fields, family: string, tied = false): ModelConfig {
  const hiddenSize = config.count('hidden_size');
  const numHeads = config.count('num_attention_heads');
  const numKvHeads = config.count('num_key_value_heads', numHeads);
  quotient(config, 'num_attention_heads', 'num_key_value_heads', [numHeads, numKvHeads]);
  const headDim =
    config.raw('head_dim') == null
      ? quotient(config, 'hidden_size', 'num_attention_heads', [hiddenSize, numHeads])
      : config.count('head_dim');
  return {
    family,
    numLayers: config.count('num_hidden_layers'),
    hiddenSize,
    embeddingSize: hiddenSize,
    numHeads,
    numKvHeads,
    headDim,
    ffnSize: config.count('intermediate_size'),
    vocabSize: config.count('vocab_size'),
    maxPositions: config.count('max_position_embeddings', 2048),
    norm: { kind: 'rms', eps: config.number('rms_norm_eps', 1e-6), placement: 'pre' },
    finalNorm: true,
    ffn: { kind: 'gated', activation: activationOf(config, 'hidden_act', 'silu') },
    positions: hfRotary(config, headDim),
    bias: { qkv: false, output: false, ffn: false },
    tiedEmbeddings: config.flag('tie_word_embeddings', tied),
    bosTokenId: config.tokenId('bos_token_id'),
    eosTokenIds: [],
  };
}

/**
 * Frequencies and their scaling, written apart in older configurations and as `rope_parameters` in newer ones.
 *
 * @param options.table of `rope_parameters`, where there is one for each kind of layer
 * @param options.theta where nothing is said of it
 */
export function hfRotary(
  config: Fields,
  headDim: number,
  { table, theta = 10000 }: { readonly table?: string; readonly theta?: number } = {},
): Rotary {
  const key = isRecord(config.raw('rope_parameters')) ? 'rope_parameters' : 'rope_scaling';
  const found = config.raw(key);
  const outer = isRecord(found) ? found : {};
  const inner = table === undefined ? undefined : outer[table];
  const parameters = isRecord(inner) ? inner : outer;
  const fields = fieldsOf(`${config.source}: ${key}`, (name) => parameters[name]);
  const either = (name: string, fallback: number) =>
    fields.raw(name) == null ? config.number(name, fallback) : fields.number(name);
  const scaling = ropeScaling(fields);
  return {
    kind: 'rotary',
    theta: either('rope_theta', theta),
    rotaryDim: evenPart(config, headDim, either('partial_rotary_factor', 1)),
    ...(scaling === undefined ? {} : { scaling }),
  };
}

/** Dimensions of a head that turn. @throws UNSUPPORTED unless they are pairs within the head */
export function evenPart(config: Fields, headDim: number, part: number): number {
  const rotaryDim = Math.floor(headDim * part);
  if (rotaryDim > 0 && rotaryDim <= headDim && rotaryDim % 2 === 0) return rotaryDim;
  const found = `${part} of a head of ${headDim}`;
  throw unsupported(config.source, 'the part of a head that turns', found, ['an even number of its dimensions']);
}

function ropeScaling(fields: Fields): RopeScaling | undefined {
  const kind = choice(
    fields,
    fields.raw('rope_type') == null ? 'type' : 'rope_type',
    ['default', 'linear', 'llama3'],
    'default',
  );
  if (kind === 'default') return undefined;
  if (kind === 'linear') return { kind, factor: fields.number('factor') };
  return {
    kind,
    factor: fields.number('factor'),
    lowFreqFactor: fields.number('low_freq_factor'),
    highFreqFactor: fields.number('high_freq_factor'),
    originalMaxPositions: fields.count('original_max_position_embeddings'),
  };
}

/** What the metadata of a GGUF file say of a model like Llama. */
export function parseGgufDecoder(metadata: Fields, file: GgufFacts, architecture: string): ModelConfig {
  const key = (name: string) => `${architecture}.${name}`;
  const hiddenSize = metadata.count(key('embedding_length'));
  const numHeads = metadata.count(key('attention.head_count'));
  const numKvHeads = metadata.count(key('attention.head_count_kv'), numHeads);
  quotient(metadata, key('attention.head_count'), key('attention.head_count_kv'), [numHeads, numKvHeads]);
  const headDim =
    metadata.raw(key('attention.key_length')) == null
      ? quotient(metadata, key('embedding_length'), key('attention.head_count'), [hiddenSize, numHeads])
      : metadata.count(key('attention.key_length'));
  const valueLength = metadata.number(key('attention.value_length'), headDim);
  if (valueLength !== headDim)
    throw unsupported(metadata.source, key('attention.value_length'), valueLength, [headDim]);
  const rotaryDim = metadata.count(key('rope.dimension_count'), headDim);
  const scaling = ggufScaling(metadata, file, architecture, rotaryDim);
  return {
    family: architecture,
    numLayers: metadata.count(key('block_count')),
    hiddenSize,
    embeddingSize: hiddenSize,
    numHeads,
    numKvHeads,
    headDim,
    ffnSize: metadata.count(key('feed_forward_length')),
    vocabSize: file.shape('token_embd.weight')?.[0] ?? metadata.count(key('vocab_size')),
    maxPositions: metadata.count(key('context_length')),
    norm: { kind: 'rms', eps: metadata.number(key('attention.layer_norm_rms_epsilon')), placement: 'pre' },
    finalNorm: true,
    ffn: { kind: 'gated', activation: 'silu' },
    positions: {
      kind: 'rotary',
      theta: metadata.number(key('rope.freq_base'), 10000),
      rotaryDim: evenPart(metadata, headDim, rotaryDim / headDim),
      ...(scaling === undefined ? {} : { scaling }),
    },
    bias: {
      qkv: file.shape('blk.0.attn_q.bias') !== undefined,
      output: file.shape('blk.0.attn_output.bias') !== undefined,
      ffn: file.shape('blk.0.ffn_up.bias') !== undefined,
    },
    tiedEmbeddings: file.shape('output.weight') === undefined,
    bosTokenId: metadata.tokenId('tokenizer.ggml.bos_token_id'),
    eosTokenIds: [],
  };
}

function ggufScaling(
  metadata: Fields,
  file: GgufFacts,
  architecture: string,
  rotaryDim: number,
): RopeScaling | undefined {
  const key = (name: string) => `${architecture}.rope.${name}`;
  const kind = choice(metadata, key('scaling.type'), ['none', 'linear'], 'none');
  const factor = metadata.number(key(kind === 'linear' ? 'scaling.factor' : 'scale_linear'), 1);
  if (file.ropeFactors === undefined) return factor === 1 ? undefined : { kind: 'linear', factor };
  if (factor !== 1)
    throw unsupported(metadata.source, `${key('scaling.factor')} beside rope_freqs.weight`, factor, [1]);
  if (file.ropeFactors.length !== rotaryDim / 2) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${metadata.source}: tensor rope_freqs.weight: needed ${rotaryDim / 2} values, half of a head, found ${file.ropeFactors.length}`,
      { path: metadata.source, tensor: 'rope_freqs.weight', needed: rotaryDim / 2, found: file.ropeFactors.length },
    );
  }
  return { kind: 'factors', factors: file.ropeFactors };
}
