/** Phi-3 and 3.5 (not the long-context ones): like Llama, with joined matrices in the file and windows. */
import type { ModelConfig } from '../config.js';
import type { Fields } from '../json.js';
import { queryKeySize, valueSize } from '../layers.js';
import type { Family, GgufFacts, Places } from './family.js';
import { numberOrNull, rowsWithin, unsupported } from './family.js';
import { ggufPlaces, hfPlaces, hfPrefixes, parseGgufDecoder, parseHfDecoder } from './llama-like.js';
import { hfWindows, windows } from './windows.js';

export const phi3: Family = {
  name: 'phi3',
  hf: {
    modelTypes: ['phi3'],
    parse: parseHf,
    prefixes: hfPrefixes,
    places: {
      ...hfPlaces,
      ...joined('{prefix}layers.{i}.self_attn.qkv_proj', '{prefix}layers.{i}.mlp.gate_up_proj'),
    },
  },
  gguf: {
    architecture: 'phi3',
    parse: parseGguf,
    places: { ...ggufPlaces, ...joined('blk.{i}.attn_qkv', 'blk.{i}.ffn_up') },
  },
};

/** One tensor of all queries, all keys, all values; another of gate and up. */
function joined(qkv: string, gateUp: string): Places {
  const qkvRows = (config: ModelConfig) => queryKeySize(config) + valueSize(config);
  const gateUpRows = ({ ffnSize }: ModelConfig) => 2 * ffnSize;
  return {
    'layers.{i}.query': rowsWithin(qkv, () => 0, qkvRows),
    'layers.{i}.key': rowsWithin(qkv, ({ numHeads, headDim }) => numHeads * headDim, qkvRows),
    'layers.{i}.value': rowsWithin(qkv, queryKeySize, qkvRows),
    'layers.{i}.gate': rowsWithin(gateUp, () => 0, gateUpRows),
    'layers.{i}.up': rowsWithin(gateUp, ({ ffnSize }) => ffnSize, gateUpRows),
  };
}

function parseHf(config: Fields): ModelConfig {
  const window = numberOrNull(config, 'sliding_window', undefined);
  const decoder = parseHfDecoder(config, 'phi3');
  return window === undefined ? decoder : { ...decoder, attention: hfWindows(config, { window }, [true]) };
}

function parseGguf(metadata: Fields, file: GgufFacts): ModelConfig {
  if (file.shape('rope_factors_long.weight') !== undefined) {
    throw unsupported(metadata.source, 'tensor rope_factors_long.weight', 'long-context scaling', ['none']);
  }
  const window = metadata.number('phi3.attention.sliding_window', 0);
  const decoder = parseGgufDecoder(metadata, file, 'phi3');
  return window === 0 ? decoder : { ...decoder, attention: windows({ window }, [true]) };
}
