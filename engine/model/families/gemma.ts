/**
 * Gemma 2 and 3 (text): norms around each half of a layer, scaled embeddings, some layers that see a window only.
 *
 * The second caps its scores and logits; the third has a norm of each head's query and key instead, and turns slower in
 * the layers that see everything.
 */
import type { Attention, ModelConfig, Rotary } from '../config.js';
import type { Fields } from '../json.js';
import { fieldsOf } from '../json.js';
import type { Family, GgufFacts, Place, Places } from './family.js';
import { activationOf, numberOrNull, unsupported } from './family.js';
import { ggufPlaces, hfPlaces, hfPrefixes, hfRotary, parseGgufDecoder, parseHfDecoder } from './llama-like.js';
import { allButLast, hfWindows, layerCount, windows } from './windows.js';

/** Norms multiply by 1 + weight; GGUF files have the sum. */
const fromOne = (name: string): Place => ({ name, plus: 1 });

const places: Places = {
  ...hfPlaces,
  'layers.{i}.attentionNorm': fromOne('{prefix}layers.{i}.input_layernorm'),
  'layers.{i}.attentionOutNorm': fromOne('{prefix}layers.{i}.post_attention_layernorm'),
  'layers.{i}.queryNorm': fromOne('{prefix}layers.{i}.self_attn.q_norm'),
  'layers.{i}.keyNorm': fromOne('{prefix}layers.{i}.self_attn.k_norm'),
  'layers.{i}.ffnNorm': fromOne('{prefix}layers.{i}.pre_feedforward_layernorm'),
  'layers.{i}.ffnOutNorm': fromOne('{prefix}layers.{i}.post_feedforward_layernorm'),
  'final.norm': fromOne('{prefix}norm'),
};

const placesInGguf: Places = {
  ...ggufPlaces,
  'layers.{i}.attentionOutNorm': 'blk.{i}.post_attention_norm',
  'layers.{i}.ffnOutNorm': 'blk.{i}.post_ffw_norm',
};

export const gemma2: Family = {
  name: 'gemma2',
  hf: { modelTypes: ['gemma2'], parse: parseHf2, prefixes: hfPrefixes, places },
  gguf: { architecture: 'gemma2', parse: parseGguf2, places: placesInGguf },
};

export const gemma3: Family = {
  name: 'gemma3',
  hf: { modelTypes: ['gemma3_text'], parse: parseHf3, prefixes: hfPrefixes, places },
  gguf: { architecture: 'gemma3', parse: parseGguf3, places: placesInGguf },
};

/** Of how many layers in turn the last sees everything. */
const PERIOD_2 = 2;
const PERIOD_3 = 6;
/** Rotary bases of the third's layers that see a window only, and of those that see everything. */
const LOCAL_THETA = 10000;
const GLOBAL_THETA = 1e6;
/** Where a configuration says nothing of it. */
const HEAD_DIM = 256;

/** What both have in common. */
function gemma(decoder: ModelConfig, attention: Attention): ModelConfig {
  return {
    ...decoder,
    norm: { ...decoder.norm, placement: 'both' },
    ffn: { kind: 'gated', activation: 'geluTanh' },
    embeddingScale: Math.fround(Math.sqrt(decoder.hiddenSize)),
    attention,
  };
}

function parseHf(config: Fields, family: string, attention: Attention): ModelConfig {
  const bias = config.flag('attention_bias', false);
  const sized = fieldsOf(config.source, (key) => config.raw(key) ?? (key === 'head_dim' ? HEAD_DIM : undefined));
  return {
    ...gemma(parseHfDecoder(sized, family, true), attention),
    ffn: { kind: 'gated', activation: activationOf(config, 'hidden_activation', 'gelu_pytorch_tanh') },
    bias: { qkv: bias, output: bias, ffn: false },
  };
}

function parseHf2(config: Fields): ModelConfig {
  const softcap = numberOrNull(config, 'attn_logit_softcapping', 50);
  const logitSoftcap = numberOrNull(config, 'final_logit_softcapping', 30);
  const decoder = parseHf(config, 'gemma2', {
    scale: config.number('query_pre_attn_scalar', 256) ** -0.5,
    ...(softcap === undefined ? {} : { softcap }),
    ...hfWindows(config, { window: config.count('sliding_window', 4096) }, allButLast(PERIOD_2)),
  });
  return { ...decoder, ...(logitSoftcap === undefined ? {} : { logitSoftcap }) };
}

function parseHf3(config: Fields): ModelConfig {
  if (config.flag('use_bidirectional_attention', false)) {
    throw unsupported(config.source, 'use_bidirectional_attention', true, [false]);
  }
  const headDim = config.count('head_dim', HEAD_DIM);
  const newer = hfRotary(config, headDim, { table: 'sliding_attention' });
  const theta =
    config.raw('rope_parameters') == null ? config.number('rope_local_base_freq', LOCAL_THETA) : newer.theta;
  const period = layerCount(config, 'sliding_window_pattern', PERIOD_3);
  const local = { window: config.count('sliding_window', 4096), positions: localRotary(headDim, theta) };
  const softcap = numberOrNull(config, 'attn_logit_softcapping', undefined);
  const logitSoftcap = numberOrNull(config, 'final_logit_softcapping', undefined);
  const decoder = parseHf(config, 'gemma3', {
    queryKeyNorm: true,
    scale: config.number('query_pre_attn_scalar', 256) ** -0.5,
    ...(softcap === undefined ? {} : { softcap }),
    ...hfWindows(config, local, allButLast(period)),
  });
  return {
    ...decoder,
    positions: hfRotary(config, headDim, { table: 'full_attention', theta: GLOBAL_THETA }),
    ...(logitSoftcap === undefined ? {} : { logitSoftcap }),
  };
}

function parseGguf2(metadata: Fields, file: GgufFacts): ModelConfig {
  const decoder = parseGgufDecoder(metadata, file, 'gemma2');
  const local = { window: metadata.count('gemma2.attention.sliding_window', 4096) };
  return {
    ...gemma(decoder, {
      scale: ggufScale(decoder, 46),
      softcap: metadata.number('gemma2.attn_logit_softcapping', 50),
      ...windows(local, allButLast(PERIOD_2)),
    }),
    logitSoftcap: metadata.number('gemma2.final_logit_softcapping', 30),
  };
}

function parseGguf3(metadata: Fields, file: GgufFacts): ModelConfig {
  const decoder = parseGgufDecoder(metadata, file, 'gemma3');
  const theta = metadata.number('gemma3.rope.freq_base_swa', LOCAL_THETA);
  const local = {
    window: metadata.count('gemma3.attention.sliding_window'),
    positions: localRotary(decoder.headDim, theta),
  };
  return {
    ...gemma(decoder, {
      queryKeyNorm: true,
      scale: ggufScale(decoder, 62),
      ...windows(local, allButLast(PERIOD_3)),
    }),
    // Where a file says nothing, its writer meant the family's.
    positions: { ...(decoder.positions as Rotary), theta: metadata.number('gemma3.rope.freq_base', GLOBAL_THETA) },
  };
}

/**
 * Files do not say by what scores are scaled. All models use the width of a head, but for the largest of each generation,
 * which is told by its number of layers, as in llama.cpp.
 */
function ggufScale({ numLayers, hiddenSize, numHeads, headDim }: ModelConfig, layersOfLargest: number): number {
  return (numLayers === layersOfLargest ? hiddenSize / numHeads : headDim) ** -0.5;
}

function localRotary(headDim: number, theta: number): Rotary {
  return { kind: 'rotary', theta, rotaryDim: headDim };
}
