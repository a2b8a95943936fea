/** Llama and the many models published as it: SmolLM, TinyLlama, Llama 2 and 3; in GGUF files Mistral and Mixtral too. */
import type { ModelConfig } from '../config.js';
import type { Fields } from '../json.js';
import { ggufExpertPlaces, ggufExperts } from './experts.js';
import type { Family, GgufFacts } from './family.js';
import { unsupported } from './family.js';
import { ggufPlaces, hfPlaces, hfPrefixes, parseGgufDecoder, parseHfDecoder } from './llama-like.js';

export const llama: Family = {
  name: 'llama',
  hf: { modelTypes: ['llama'], parse: parseHf, prefixes: hfPrefixes, places: hfPlaces },
  gguf: {
    architecture: 'llama',
    parse: parseGguf,
    places: {
      ...ggufPlaces,
      ...ggufExpertPlaces,
      'layers.{i}.query': { name: 'blk.{i}.attn_q', fileRow: interleavedRow },
      'layers.{i}.key': { name: 'blk.{i}.attn_k', fileRow: interleavedRow },
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
  const attentionBias = config.flag('attention_bias', false);
  return {
    ...parseHfDecoder(config, 'llama'),
    bias: { qkv: attentionBias, output: attentionBias, ffn: config.flag('mlp_bias', false) },
  };
}

function parseGguf(metadata: Fields, file: GgufFacts): ModelConfig {
  const decoder = parseGgufDecoder(metadata, file, 'llama');
  const rotaryDim = metadata.number('llama.rope.dimension_count', decoder.headDim);
  // Rows are put side by side for the whole head.
  if (rotaryDim !== decoder.headDim)
    throw unsupported(metadata.source, 'llama.rope.dimension_count', rotaryDim, [decoder.headDim]);
  return { ...decoder, ...ggufExperts(metadata, 'llama', true) };
}
