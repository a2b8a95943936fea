/**
 * OPT, in both its layouts: norms before each part, or after it as in the 350m model, which also projects its narrower
 * embeddings in and out.
 */
import type { ModelConfig } from '../config.js';
import type { Fields } from '../json.js';
import type { Family } from './family.js';
import { choice, quotient, unsupported } from './family.js';

/** Rows of the position table that stand before position 0. */
const positionOffset = 2;

export const opt: Family = {
  name: 'opt',
  hf: {
    modelTypes: ['opt'],
    parse: parseHf,
    prefixes: ['model.decoder.', 'decoder.', 'model.', ''],
    places: {
      'embed.tokens': '{prefix}embed_tokens',
      'embed.positions': '{prefix}embed_positions',
      'embed.project': '{prefix}project_in',
      'layers.{i}.attentionNorm': '{prefix}layers.{i}.self_attn_layer_norm',
      'layers.{i}.query': '{prefix}layers.{i}.self_attn.q_proj',
      'layers.{i}.key': '{prefix}layers.{i}.self_attn.k_proj',
      'layers.{i}.value': '{prefix}layers.{i}.self_attn.v_proj',
      'layers.{i}.output': '{prefix}layers.{i}.self_attn.out_proj',
      'layers.{i}.ffnNorm': '{prefix}layers.{i}.final_layer_norm',
      'layers.{i}.up': '{prefix}layers.{i}.fc1',
      'layers.{i}.down': '{prefix}layers.{i}.fc2',
      'final.norm': '{prefix}final_layer_norm',
      'head.project': '{prefix}project_out',
      'head.tokens': 'lm_head',
    },
  },
};

function parseHf(config: Fields): ModelConfig {
  const hiddenSize = config.count('hidden_size');
  const numHeads = config.count('num_attention_heads');
  const isPreNorm = config.flag('do_layer_norm_before', true);
  const bias = config.flag('enable_bias', true);
  if (!config.flag('layer_norm_elementwise_affine', true)) {
    throw unsupported(config.source, 'layer_norm_elementwise_affine', false, [true]);
  }
  return {
    family: 'opt',
    numLayers: config.count('num_hidden_layers'),
    hiddenSize,
    embeddingSize: config.count('word_embed_proj_dim', hiddenSize),
    numHeads,
    numKvHeads: numHeads,
    headDim: quotient(config, 'hidden_size', 'num_attention_heads', [hiddenSize, numHeads]),
    ffnSize: config.count('ffn_dim'),
    vocabSize: config.count('vocab_size'),
    maxPositions: config.count('max_position_embeddings', 2048),
    // The family's code leaves the epsilon at its library's default.
    norm: { kind: 'layer', eps: 1e-5, placement: isPreNorm ? 'pre' : 'post' },
    finalNorm: isPreNorm && !config.flag('_remove_final_layer_norm', false),
    ffn: { kind: 'plain', activation: choice(config, 'activation_function', ['relu'], 'relu') },
    positions: { kind: 'learned', offset: positionOffset },
    bias: { qkv: bias, output: bias, ffn: bias },
    tiedEmbeddings: config.flag('tie_word_embeddings', true),
    bosTokenId: config.tokenId('bos_token_id'),
    eosTokenIds: [],
  };
}
