/**
 * Qwen 2 and 3, plain and with experts. The second has biases on queries, keys and values; the third a norm of each
 * head's query and key instead.
 */
import type { ModelConfig } from '../config.js';
import type { Fields } from '../json.js';
import { checkEveryLayer, checkedExperts, ggufExpertPlaces, ggufExperts, ggufSharedPlaces } from './experts.js';
import type { Family, GgufFacts, HfDeclaration } from './family.js';
import { ggufPlaces, hfPlaces, hfPrefixes, parseGgufDecoder, parseHfDecoder } from './llama-like.js';
import { hfWindows, layerCount } from './windows.js';

const hfExpertPlaces = {
  ...hfPlaces,
  'layers.{i}.router': '{prefix}layers.{i}.mlp.gate',
  'layers.{i}.experts.{e}.gate': '{prefix}layers.{i}.mlp.experts.{e}.gate_proj',
  'layers.{i}.experts.{e}.up': '{prefix}layers.{i}.mlp.experts.{e}.up_proj',
  'layers.{i}.experts.{e}.down': '{prefix}layers.{i}.mlp.experts.{e}.down_proj',
} as const;

const hfSharedPlaces = {
  ...hfExpertPlaces,
  'layers.{i}.shared': '{prefix}layers.{i}.mlp.shared_expert_gate',
  'layers.{i}.gate': '{prefix}layers.{i}.mlp.shared_expert.gate_proj',
  'layers.{i}.up': '{prefix}layers.{i}.mlp.shared_expert.up_proj',
  'layers.{i}.down': '{prefix}layers.{i}.mlp.shared_expert.down_proj',
} as const;

export const qwen2: Family = {
  name: 'qwen2',
  hf: hf('qwen2', parseQwen2, hfPlaces),
  gguf: { architecture: 'qwen2', parse: gguf('qwen2'), places: ggufPlaces },
};

export const qwen3: Family = {
  name: 'qwen3',
  hf: hf('qwen3', parseQwen3, hfPlaces),
  gguf: { architecture: 'qwen3', parse: gguf('qwen3'), places: ggufPlaces },
};

export const qwen2Moe: Family = {
  name: 'qwen2_moe',
  hf: hf('qwen2_moe', (config) => ({ ...parseQwen2(config), ...hfExperts(config, true) }), hfSharedPlaces),
  gguf: {
    architecture: 'qwen2moe',
    parse: gguf('qwen2moe'),
    places: { ...ggufPlaces, ...ggufExpertPlaces, ...ggufSharedPlaces },
  },
};

export const qwen3Moe: Family = {
  name: 'qwen3_moe',
  hf: hf('qwen3_moe', (config) => ({ ...parseQwen3(config), ...hfExperts(config, false) }), hfExpertPlaces),
  gguf: { architecture: 'qwen3moe', parse: gguf('qwen3moe'), places: { ...ggufPlaces, ...ggufExpertPlaces } },
};

function hf(modelType: string, parse: HfDeclaration['parse'], places: HfDeclaration['places']): HfDeclaration {
  return { modelTypes: [modelType], parse, prefixes: hfPrefixes, places };
}

function parseQwen2(config: Fields): ModelConfig {
  const decoder = parseHfDecoder(config, config.text('model_type'));
  return {
    ...decoder,
    bias: { ...decoder.bias, qkv: config.flag('qkv_bias', true) },
    ...attentionOf(config, {}),
  };
}

function parseQwen3(config: Fields): ModelConfig {
  const decoder = parseHfDecoder(config, config.text('model_type'));
  const bias = config.flag('attention_bias', false);
  return {
    ...decoder,
    bias: { qkv: bias, output: bias, ffn: false },
    ...attentionOf(config, { queryKeyNorm: true }),
  };
}

/** Where windows are switched on, the first layers have none. */
function attentionOf(config: Fields, base: NonNullable<ModelConfig['attention']>): Pick<ModelConfig, 'attention'> {
  if (!config.flag('use_sliding_window', false)) return Object.keys(base).length > 0 ? { attention: base } : {};
  const numLayers = layerCount(config, 'num_hidden_layers');
  const first = config.number('max_window_layers', 28);
  const isLocal = Array.from({ length: numLayers }, (_, layer) => layer >= first);
  const local = { window: config.count('sliding_window', 4096) };
  return { attention: { ...base, ...hfWindows(config, local, isLocal) } };
}

function hfExperts(config: Fields, shared: boolean): Pick<ModelConfig, 'experts' | 'ffnSize'> {
  checkEveryLayer(config);
  return {
    ffnSize: config.count('moe_intermediate_size'),
    experts: checkedExperts(config, {
      count: config.count('num_experts'),
      perToken: config.count('num_experts_per_tok'),
      renormalised: config.flag('norm_topk_prob', false),
      ...(shared ? { sharedSize: config.count('shared_expert_intermediate_size') } : {}),
    }),
  };
}

function gguf(architecture: 'qwen2' | 'qwen3' | 'qwen2moe' | 'qwen3moe') {
  const isThird = architecture.startsWith('qwen3');
  return (metadata: Fields, file: GgufFacts): ModelConfig => ({
    ...parseGgufDecoder(metadata, file, architecture),
    ...(isThird ? { attention: { queryKeyNorm: true } } : {}),
    // Files do not say it: of those with experts, the third makes their shares add up to 1.
    ...ggufExperts(metadata, architecture, isThird),
  });
}
