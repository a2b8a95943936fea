/** GPT-NeoX and Pythia: layer norms, biases everywhere, a part of each head turns, both halves of a layer read its input. */
import type { ModelConfig } from '../config.js';
import type { Fields } from '../json.js';
import { isRecord } from '../json.js';
import type { Family, GgufFacts, Place } from './family.js';
import { activationOf, quotient, rowsWithin, unsupported } from './family.js';
import { evenPart, ggufPlaces, hfRotary } from './llama-like.js';

export const gptNeox: Family = {
  name: 'gpt_neox',
  hf: {
    modelTypes: ['gpt_neox'],
    parse: parseHf,
    prefixes: ['gpt_neox.', ''],
    places: {
      'embed.tokens': '{prefix}embed_in',
      'layers.{i}.attentionNorm': '{prefix}layers.{i}.input_layernorm',
      'layers.{i}.query': headRows(0),
      'layers.{i}.key': headRows(1),
      'layers.{i}.value': headRows(2),
      'layers.{i}.output': '{prefix}layers.{i}.attention.dense',
      'layers.{i}.ffnNorm': '{prefix}layers.{i}.post_attention_layernorm',
      'layers.{i}.up': '{prefix}layers.{i}.mlp.dense_h_to_4h',
      'layers.{i}.down': '{prefix}layers.{i}.mlp.dense_4h_to_h',
      'final.norm': '{prefix}final_layer_norm',
      'head.tokens': 'embed_out',
    },
  },
  gguf: {
    architecture: 'gptneox',
    parse: parseGguf,
    places: {
      ...ggufPlaces,
      'layers.{i}.query': third(0),
      'layers.{i}.key': third(1),
      'layers.{i}.value': third(2),
    },
  },
};

/** In one tensor, head after head: its query, its key, its value. */
function headRows(part: 0 | 1 | 2): Place {
  return {
    name: '{prefix}layers.{i}.attention.query_key_value',
    fileRow: ({ headDim }, row) => (3 * Math.floor(row / headDim) + part) * headDim + (row % headDim),
    fileShape: (_, [rows, ...width]) => [3 * rows!, ...width],
  };
}

/** In one tensor: all queries, all keys, all values. */
function third(part: 0 | 1 | 2): Place {
  const whole = ({ hiddenSize }: ModelConfig) => 3 * hiddenSize;
  return rowsWithin('blk.{i}.attn_qkv', ({ hiddenSize }) => part * hiddenSize, whole);
}

function parseHf(config: Fields): ModelConfig {
  const hiddenSize = config.count('hidden_size');
  const numHeads = config.count('num_attention_heads');
  const headDim = quotient(config, 'hidden_size', 'num_attention_heads', [hiddenSize, numHeads]);
  const bias = config.flag('attention_bias', true);
  const newer = isRecord(config.raw('rope_parameters'));
  const rotary = hfRotary(config, headDim);
  return {
    family: 'gpt_neox',
    numLayers: config.count('num_hidden_layers'),
    hiddenSize,
    embeddingSize: hiddenSize,
    numHeads,
    numKvHeads: numHeads,
    headDim,
    ffnSize: config.count('intermediate_size'),
    vocabSize: config.count('vocab_size'),
    maxPositions: config.count('max_position_embeddings', 2048),
    norm: { kind: 'layer', eps: config.number('layer_norm_eps', 1e-5), placement: 'pre' },
    finalNorm: true,
    parallelResidual: config.flag('use_parallel_residual', true),
    ffn: { kind: 'plain', activation: activationOf(config, 'hidden_act', 'gelu') },
    positions: newer
      ? rotary
      : {
          ...rotary,
          theta: config.number('rotary_emb_base', 10000),
          rotaryDim: evenPart(config, headDim, config.number('rotary_pct', 0.25)),
        },
    bias: { qkv: bias, output: bias, ffn: true },
    tiedEmbeddings: config.flag('tie_word_embeddings', false),
    bosTokenId: config.tokenId('bos_token_id'),
    eosTokenIds: [],
  };
}

function parseGguf(metadata: Fields, file: GgufFacts): ModelConfig {
  const key = (name: string) => `gptneox.${name}`;
  const hiddenSize = metadata.count(key('embedding_length'));
  const numHeads = metadata.count(key('attention.head_count'));
  const headDim = quotient(metadata, key('embedding_length'), key('attention.head_count'), [hiddenSize, numHeads]);
  const scaling = metadata.text(key('rope.scaling.type'), 'none');
  if (scaling !== 'none') throw unsupported(metadata.source, key('rope.scaling.type'), scaling, ['none']);
  return {
    family: 'gpt_neox',
    numLayers: metadata.count(key('block_count')),
    hiddenSize,
    embeddingSize: hiddenSize,
    numHeads,
    numKvHeads: numHeads,
    headDim,
    ffnSize: metadata.count(key('feed_forward_length')),
    vocabSize: file.shape('token_embd.weight')?.[0] ?? metadata.count(key('vocab_size')),
    maxPositions: metadata.count(key('context_length')),
    norm: { kind: 'layer', eps: metadata.number(key('attention.layer_norm_epsilon')), placement: 'pre' },
    finalNorm: true,
    parallelResidual: metadata.flag(key('use_parallel_residual'), true),
    ffn: { kind: 'plain', activation: 'gelu' },
    positions: {
      kind: 'rotary',
      theta: metadata.number(key('rope.freq_base'), 10000),
      rotaryDim: evenPart(metadata, headDim, metadata.count(key('rope.dimension_count'), headDim) / headDim),
    },
    bias: { qkv: true, output: true, ffn: true },
    tiedEmbeddings: file.shape('output.weight') === undefined,
    bosTokenId: metadata.tokenId('tokenizer.ggml.bos_token_id'),
    eosTokenIds: [],
  };
}
