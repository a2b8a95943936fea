/** Mistral, whose layers see a window of the positions before them, and Mixtral, whose layers have experts. */
import type { ModelConfig } from '../config.js';
import type { Fields } from '../json.js';
import { checkedExperts } from './experts.js';
import type { Family } from './family.js';
import { numberOrNull } from './family.js';
import { hfPlaces, hfPrefixes, parseHfDecoder } from './llama-like.js';
import { hfWindows } from './windows.js';

export const mistral: Family = {
  name: 'mistral',
  hf: {
    modelTypes: ['mistral'],
    parse: (config) => parseHf(config, 'mistral', 4096),
    prefixes: hfPrefixes,
    places: hfPlaces,
  },
};

export const mixtral: Family = {
  name: 'mixtral',
  hf: {
    modelTypes: ['mixtral'],
    parse: parseMixtral,
    prefixes: hfPrefixes,
    places: {
      ...hfPlaces,
      'layers.{i}.router': '{prefix}layers.{i}.block_sparse_moe.gate',
      'layers.{i}.experts.{e}.gate': '{prefix}layers.{i}.block_sparse_moe.experts.{e}.w1',
      'layers.{i}.experts.{e}.up': '{prefix}layers.{i}.block_sparse_moe.experts.{e}.w3',
      'layers.{i}.experts.{e}.down': '{prefix}layers.{i}.block_sparse_moe.experts.{e}.w2',
    },
  },
};

/** @param usualWindow of the family, where the configuration says nothing of it */
function parseHf(config: Fields, family: string, usualWindow: number | undefined): ModelConfig {
  const window = numberOrNull(config, 'sliding_window', usualWindow);
  const decoder = parseHfDecoder(config, family);
  return window === undefined ? decoder : { ...decoder, attention: hfWindows(config, { window }, [true]) };
}

function parseMixtral(config: Fields): ModelConfig {
  const experts = checkedExperts(config, {
    count: config.count('num_local_experts', 8),
    perToken: config.count('num_experts_per_tok', 2),
    renormalised: true,
  });
  return { ...parseHf(config, 'mixtral', undefined), experts };
}
