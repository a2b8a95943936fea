/**
 * Llama and the many models published as it: SmolLM, TinyLlama, Llama 2 and 3.
 *
 * Root-mean-square norms before each part, rotary positions, grouped queries, a gated feed-forward network.
 */
import { EngineError } from '../../errors.js';
import type { ModelConfig, RopeScaling } from '../config.js';
import type { Fields } from '../json.js';
import { fieldsOf, isRecord } from '../json.js';
import type { Family, GgufFacts } from './family.js';
import { choice, quotient, unsupported } from './family.js';

export const llama: Family = {
  name: 'llama',
  hf: {
    modelTypes: ['llama'],
    parse: parseHf,
    prefixes: ['model.', ''],
    places: {
      'embed.tokens': '{prefix}embed_tokens',
      'layers.{i}.attentionNorm': '{prefix}layers.{i}.input_layernorm',
      'layers.{i}.query': '{prefix}layers.{i}.self_attn.q_proj',
      'layers.{i}.key': '{prefix}layers.{i}.self_attn.k_proj',
      'layers.{i}.value': '{prefix}layers.{i}.self_attn.v_proj',
      'layers.{i}.output': '{prefix}layers.{i}.self_attn.o_proj',
      'layers.{i}.ffnNorm': '{prefix}layers.{i}.post_attention_layernorm',
      'layers.{i}.gate': '{prefix}layers.{i}.mlp.gate_proj',
      'layers.{i}.up': '{prefix}layers.{i}.mlp.up_proj',
      'layers.{i}.down': '{prefix}layers.{i}.mlp.down_proj',
      'final.norm': '{prefix}norm',
      'head.tokens': 'lm_head',
    },
  },
  gguf: {
    architecture: 'llama',
    parse: parseGguf,
    places: {
      'embed.tokens': 'token_embd',
      'layers.{i}.attentionNorm': 'blk.{i}.attn_norm',
      'layers.{i}.query': { name: 'blk.{i}.attn_q', fileRow: interleavedRow },
      'layers.{i}.key': { name: 'blk.{i}.attn_k', fileRow: interleavedRow },
      'layers.{i}.value': 'blk.{i}.attn_v',
      'layers.{i}.output': 'blk.{i}.attn_output',
      'layers.{i}.ffnNorm': 'blk.{i}.ffn_norm',
      'layers.{i}.gate': 'blk.{i}.ffn_gate',
      'layers.{i}.up': 'blk.{i}.ffn_up',
      'layers.{i}.down': 'blk.{i}.ffn_down',
      'final.norm': 'output_norm',
      'head.tokens': 'output',
    },
  },
};

/** Of each head, row i and row i + headDim / 2 are neighbours in a GGUF file. */
function interleavedRow({ headDim }: ModelConfig, row: number): number {
  const within = row % headDim;
  const half = headDim / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

function parseHf(config: Fields): ModelConfig {
  const hiddenSize = config.count('hidden_size');
  const numHeads = config.count('num_attention_heads');
  const numKvHeads = config.count('num_key_value_heads', numHeads);
  quotient(config, 'num_attention_heads', 'num_key_value_heads', [numHeads, numKvHeads]);
  const headDim =
    config.raw('head_dim') == null
      ? quotient(config, 'hidden_size', 'num_attention_heads', [hiddenSize, numHeads])
      : config.count('head_dim');
  const attentionBias = config.flag('attention_bias', false);
  return {
    family: 'llama',
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
    ffn: { kind: 'gated', activation: choice(config, 'hidden_act', ['silu', 'relu'], 'silu') },
    positions: rotary(config, headDim),
    bias: { qkv: attentionBias, output: attentionBias, ffn: config.flag('mlp_bias', false) },
    tiedEmbeddings: config.flag('tie_word_embeddings', false),
    bosTokenId: config.tokenId('bos_token_id'),
    eosTokenIds: [],
  };
}

/** Frequencies and their scaling, written apart in older configurations and as `rope_parameters` in newer ones. */
function rotary(config: Fields, rotaryDim: number): ModelConfig['positions'] {
  const key = isRecord(config.raw('rope_parameters')) ? 'rope_parameters' : 'rope_scaling';
  const found = config.raw(key);
  const parameters = isRecord(found) ? found : {};
  const fields = fieldsOf(`${config.source}: ${key}`, (name) => parameters[name]);
  const theta = fields.raw('rope_theta') == null ? config.number('rope_theta', 10000) : fields.number('rope_theta');
  const scaling = ropeScaling(fields);
  return { kind: 'rotary', theta, rotaryDim, ...(scaling === undefined ? {} : { scaling }) };
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

function parseGguf(metadata: Fields, file: GgufFacts): ModelConfig {
  const key = (name: string) => `llama.${name}`;
  const hiddenSize = metadata.count(key('embedding_length'));
  const numHeads = metadata.count(key('attention.head_count'));
  const numKvHeads = metadata.count(key('attention.head_count_kv'), numHeads);
  quotient(metadata, key('attention.head_count'), key('attention.head_count_kv'), [numHeads, numKvHeads]);
  const headDim =
    metadata.raw(key('attention.key_length')) == null
      ? quotient(metadata, key('embedding_length'), key('attention.head_count'), [hiddenSize, numHeads])
      : metadata.count(key('attention.key_length'));
  for (const [name, needed] of [
    ['attention.value_length', headDim],
    ['rope.dimension_count', headDim],
    ['expert_count', 0],
  ] as const) {
    const found = metadata.number(key(name), needed);
    if (found !== needed) throw unsupported(metadata.source, key(name), found, [needed]);
  }
  const scaling = ggufScaling(metadata, file, headDim);
  return {
    family: 'llama',
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
      rotaryDim: headDim,
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

function ggufScaling(metadata: Fields, file: GgufFacts, headDim: number): RopeScaling | undefined {
  const kind = choice(metadata, 'llama.rope.scaling.type', ['none', 'linear'], 'none');
  const factor = metadata.number(kind === 'linear' ? 'llama.rope.scaling.factor' : 'llama.rope.scale_linear', 1);
  if (file.ropeFactors === undefined) return factor === 1 ? undefined : { kind: 'linear', factor };
  if (factor !== 1)
    throw unsupported(metadata.source, 'llama.rope.scaling.factor beside rope_freqs.weight', factor, [1]);
  if (file.ropeFactors.length !== headDim / 2) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${metadata.source}: tensor rope_freqs.weight: needed ${headDim / 2} values, half of a head, found ${file.ropeFactors.length}`,
      { path: metadata.source, tensor: 'rope_freqs.weight', needed: headDim / 2, found: file.ropeFactors.length },
    );
  }
  return { kind: 'factors', factors: file.ropeFactors };
}
