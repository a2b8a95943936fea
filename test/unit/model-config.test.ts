import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseGgufConfig, parseHfConfig } from '../../engine/model/families/index.js';
import { FIXTURES } from '../support/golden.js';

// The shape of Llama 3.2 1B, as its own config.json states it.
const llama = {
  model_type: 'llama',
  hidden_size: 2048,
  num_hidden_layers: 16,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  intermediate_size: 8192,
  vocab_size: 128256,
  max_position_embeddings: 131072,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
  tie_word_embeddings: true,
  bos_token_id: 128000,
  eos_token_id: 128001,
};
const opt = {
  model_type: 'opt',
  hidden_size: 1024,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  ffn_dim: 4096,
  vocab_size: 50272,
  max_position_embeddings: 2048,
};
const scaling = { factor: 32, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
const llama3 = { kind: 'llama3', factor: 32, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192 };

describe('Hugging Face configuration', () => {
  it('gives the whole shape of a Llama model', () => {
    expect(parseHfConfig(llama).config).toEqual({
      family: 'llama',
      numLayers: 16,
      hiddenSize: 2048,
      embeddingSize: 2048,
      numHeads: 32,
      numKvHeads: 8,
      headDim: 64,
      ffnSize: 8192,
      vocabSize: 128256,
      maxPositions: 131072,
      norm: { kind: 'rms', eps: 1e-5, placement: 'pre' },
      finalNorm: true,
      ffn: { kind: 'gated', activation: 'silu' },
      positions: { kind: 'rotary', theta: 500000, rotaryDim: 64 },
      bias: { qkv: false, output: false, ffn: false },
      tiedEmbeddings: true,
      bosTokenId: 128000,
      eosTokenIds: [128001],
    });
  });

  it.each([
    ['as many KV heads as heads where none are given', { num_key_value_heads: undefined }, { numKvHeads: 32 }],
    ['a head dimension of its own', { head_dim: 128 }, { headDim: 128 }],
    ['biases', { attention_bias: true, mlp_bias: true }, { bias: { qkv: true, output: true, ffn: true } }],
    ['an untied head unless the file says otherwise', { tie_word_embeddings: undefined }, { tiedEmbeddings: false }],
    ['a list of end tokens', { eos_token_id: [1, 2] }, { eosTokenIds: [1, 2] }],
    ['no end token', { eos_token_id: null }, { eosTokenIds: [] }],
    ['no BOS', { bos_token_id: null }, { bosTokenId: undefined }],
    [
      'the usual rotary base where none is given',
      { rope_theta: undefined },
      { positions: { kind: 'rotary', theta: 10000, rotaryDim: 64 } },
    ],
    [
      'Llama 3 scaling',
      { rope_scaling: { rope_type: 'llama3', ...scaling } },
      { positions: { kind: 'rotary', theta: 500000, rotaryDim: 64, scaling: llama3 } },
    ],
    [
      'linear scaling under its old key',
      { rope_scaling: { type: 'linear', factor: 2 } },
      { positions: { kind: 'rotary', theta: 500000, rotaryDim: 64, scaling: { kind: 'linear', factor: 2 } } },
    ],
    [
      'frequencies and scaling in the newer style',
      { rope_theta: undefined, rope_parameters: { rope_theta: 70000, rope_type: 'llama3', ...scaling } },
      { positions: { kind: 'rotary', theta: 70000, rotaryDim: 64, scaling: llama3 } },
    ],
    [
      'no scaling in the newer style',
      { rope_theta: undefined, rope_parameters: { rope_theta: 70000, rope_type: 'default' } },
      { positions: { kind: 'rotary', theta: 70000, rotaryDim: 64 } },
    ],
  ])('of Llama reads %s', (_, change, expected) => {
    expect(parseHfConfig({ ...llama, ...change }).config).toMatchObject(expected);
  });

  it.each([
    [
      'the usual layout',
      {},
      { norm: { kind: 'layer', eps: 1e-5, placement: 'pre' }, finalNorm: true, embeddingSize: 1024 },
    ],
    [
      'the layout of the 350m model',
      { do_layer_norm_before: false, word_embed_proj_dim: 512 },
      { norm: { kind: 'layer', eps: 1e-5, placement: 'post' }, finalNorm: false, embeddingSize: 512 },
    ],
    ['positions after two rows', {}, { positions: { kind: 'learned', offset: 2 }, maxPositions: 2048 }],
    ['a plain feed-forward network', {}, { ffn: { kind: 'plain', activation: 'relu' }, ffnSize: 4096 }],
    ['biases everywhere', {}, { bias: { qkv: true, output: true, ffn: true } }],
    ['no biases', { enable_bias: false }, { bias: { qkv: false, output: false, ffn: false } }],
    ['a tied head', {}, { tiedEmbeddings: true, numKvHeads: 16, headDim: 64 }],
  ])('of OPT reads %s', (_, change, expected) => {
    expect(parseHfConfig({ ...opt, ...change }).config).toMatchObject(expected);
  });

  // As the models' own config.json files state them, with what matters here.
  const sized = {
    hidden_size: 640,
    num_hidden_layers: 18,
    num_attention_heads: 4,
    num_key_value_heads: 1,
    intermediate_size: 2048,
    vocab_size: 262144,
    max_position_embeddings: 32768,
  };
  const local = { window: 512, positions: { kind: 'rotary', theta: 10000, rotaryDim: 256 } };
  const gemma3 = {
    ...sized,
    model_type: 'gemma3_text',
    head_dim: 256,
    query_pre_attn_scalar: 256,
    rope_theta: 1e6,
    rope_local_base_freq: 10000,
    sliding_window: 512,
  };
  const moe = { ...sized, num_experts: 60, num_experts_per_tok: 4, moe_intermediate_size: 1408 };

  it.each([
    [
      'Gemma 3: five layers with a window to each without',
      gemma3,
      {
        norm: { placement: 'both' },
        ffn: { activation: 'geluTanh' },
        positions: { theta: 1e6, rotaryDim: 256 },
        attention: { scale: 1 / 16, queryKeyNorm: true, layers: [local, local, local, local, local, {}] },
        embeddingScale: 25.298221588134766,
        tiedEmbeddings: true,
      },
    ],
    [
      'Gemma 3 in the newer style',
      {
        ...gemma3,
        rope_theta: undefined,
        rope_local_base_freq: undefined,
        num_hidden_layers: 2,
        layer_types: ['full_attention', 'sliding_attention'],
        rope_parameters: {
          full_attention: { rope_type: 'linear', factor: 8, rope_theta: 1e6 },
          sliding_attention: { rope_type: 'default', rope_theta: 10000 },
        },
      },
      {
        positions: { theta: 1e6, scaling: { kind: 'linear', factor: 8 } },
        attention: { layers: [{}, local] },
      },
    ],
    [
      'Qwen 2 with windows switched on, from a layer on',
      {
        ...sized,
        model_type: 'qwen2',
        num_hidden_layers: 3,
        use_sliding_window: true,
        sliding_window: 9,
        max_window_layers: 1,
      },
      { bias: { qkv: true, output: false, ffn: false }, attention: { layers: [{}, { window: 9 }, { window: 9 }] } },
    ],
    [
      'Mistral with the window that it has where nothing is said of one',
      { ...sized, model_type: 'mistral' },
      { attention: { layers: [{ window: 4096 }] } },
    ],
    [
      'Phi-3 with a part of each head that turns',
      { ...sized, model_type: 'phi3', partial_rotary_factor: 0.75, sliding_window: 2047 },
      { positions: { rotaryDim: 120 }, attention: { layers: [{ window: 2047 }] } },
    ],
    [
      'GPT-NeoX, both halves of whose layers read the same unless it says otherwise',
      { ...sized, model_type: 'gpt_neox', num_key_value_heads: undefined },
      { parallelResidual: true, positions: { rotaryDim: 40 }, ffn: { kind: 'plain', activation: 'gelu' } },
    ],
    [
      'Qwen 2 with experts and a network beside them',
      { ...moe, model_type: 'qwen2_moe', shared_expert_intermediate_size: 5632 },
      { ffnSize: 1408, experts: { count: 60, perToken: 4, renormalised: false, sharedSize: 5632 } },
    ],
    [
      'Qwen 3 with experts whose shares add up',
      { ...moe, model_type: 'qwen3_moe', norm_topk_prob: true },
      { attention: { queryKeyNorm: true }, experts: { count: 60, perToken: 4, renormalised: true } },
    ],
  ])('reads %s', (_, config, expected) => {
    expect(parseHfConfig(config).config).toMatchObject(expected);
  });

  it.each([
    ['Mistral without a window', { ...sized, model_type: 'mistral', sliding_window: null }],
    ['Qwen 2 with windows switched off', { ...sized, model_type: 'qwen2', sliding_window: 16 }],
  ])('gives no layer of %s a window', (_, config) => {
    expect(parseHfConfig(config).config.attention?.layers).toBeUndefined();
  });

  it.each([
    [
      'layers of mixed kinds of feed-forward',
      { ...moe, model_type: 'qwen3_moe', decoder_sparse_step: 2 },
      /decoder_sparse_step: found 2; supported: 1/,
    ],
    [
      'layers without experts among those that have them',
      { ...moe, model_type: 'qwen3_moe', mlp_only_layers: [0] },
      /mlp_only_layers: found \[0\]/,
    ],
    [
      'more experts for a row than there are',
      { ...moe, model_type: 'qwen3_moe', num_experts: 2 },
      /a row uses 4 experts, and there are 2/,
    ],
    [
      'another kind of layer',
      { ...gemma3, num_hidden_layers: 1, layer_types: ['linear_attention'] },
      /layer_types: found "linear_attention"; supported: "sliding_attention", "full_attention"/,
    ],
    [
      'kinds for fewer layers than there are',
      { ...gemma3, layer_types: ['full_attention'] },
      /layer_types: needed one for each of 18 layers, found 1/,
    ],
    [
      'a period of kinds that no model has',
      { ...gemma3, sliding_window_pattern: 1e12 },
      /sliding_window_pattern: found 1000000000000/,
    ],
    [
      'windows over more layers than any model has',
      { ...sized, model_type: 'qwen2', use_sliding_window: true, num_hidden_layers: 1e9 },
      /num_hidden_layers: found 1000000000/,
    ],
    [
      'long-context scaling',
      { ...sized, model_type: 'phi3', rope_scaling: { type: 'longrope', short_factor: [1], long_factor: [1] } },
      /rope_scaling: type: found "longrope"/,
    ],
    [
      'a head of which an odd part turns',
      { ...sized, model_type: 'phi3', partial_rotary_factor: 0.01 },
      /the part of a head that turns: found "0.01 of a head of 160"/,
    ],
    ['pictures', { ...gemma3, model_type: 'gemma3' }, /model_type is "gemma3"; supported families are .*gemma3_text/],
  ])('refuses %s', (_, config, message) => {
    expect(() => parseHfConfig(config)).toThrow(message);
  });

  it('takes the end tokens of generation_config.json where it has some', () => {
    expect(parseHfConfig(llama, { eos_token_id: [128001, 128009] }).config.eosTokenIds).toEqual([128001, 128009]);
    expect(parseHfConfig(llama, { temperature: 0.6 }).config.eosTokenIds).toEqual([128001]);
  });

  it.each([
    [
      'another family',
      { model_type: 'mamba' },
      'UNSUPPORTED',
      /model_type is "mamba"; supported families are llama, opt/,
    ],
    ['no family', { model_type: undefined }, 'BAD_WEIGHTS', /model_type: needed a text, found nothing/],
    [
      'a missing size',
      { hidden_size: undefined },
      'BAD_WEIGHTS',
      /hidden_size: needed a whole number above zero, found nothing/,
    ],
    [
      'a size that is no number',
      { num_hidden_layers: '16' },
      'BAD_WEIGHTS',
      /num_hidden_layers: needed a whole number above zero, found "16"/,
    ],
    ['no layers', { num_hidden_layers: 0 }, 'BAD_WEIGHTS', /num_hidden_layers: .*found 0/],
    [
      'heads that do not divide the width',
      { num_attention_heads: 30, num_key_value_heads: 5 },
      'BAD_WEIGHTS',
      /hidden_size 2048 is no multiple of num_attention_heads 30/,
    ],
    [
      'heads that do not share KV heads evenly',
      { num_key_value_heads: 5 },
      'BAD_WEIGHTS',
      /num_attention_heads 32 is no multiple of num_key_value_heads 5/,
    ],
    [
      'another activation',
      { hidden_act: 'mish' },
      'UNSUPPORTED',
      /hidden_act: found "mish"; supported: "silu", "relu", "gelu"/,
    ],
    [
      'another rotary scaling',
      { rope_scaling: { rope_type: 'yarn', factor: 4 } },
      'UNSUPPORTED',
      /rope_scaling: rope_type: found "yarn"; supported: "default", "linear", "llama3"/,
    ],
    [
      'a scaling without its factor',
      { rope_scaling: { type: 'linear' } },
      'BAD_WEIGHTS',
      /rope_scaling: factor: needed a number, found nothing/,
    ],
    [
      'quantised weights',
      { quantization_config: { quant_method: 'gptq' } },
      'UNSUPPORTED',
      /quantization_config: found "gptq"/,
    ],
    [
      'an end token that is no id',
      { eos_token_id: '</s>' },
      'BAD_WEIGHTS',
      /eos_token_id: needed an id or a list of ids, found "<\/s>"/,
    ],
  ])('refuses %s, naming the file', (_, change, code, message) => {
    const parse = () => parseHfConfig({ ...llama, ...change }, {}, '/models/x/config.json');
    expect(parse).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
    expect(parse).toThrow('/models/x/config.json');
  });
});

describe('GGUF configuration', () => {
  const metadata = {
    'general.architecture': 'llama',
    'llama.block_count': 16,
    'llama.context_length': 131072,
    'llama.embedding_length': 2048,
    'llama.feed_forward_length': 8192,
    'llama.attention.head_count': 32,
    'llama.attention.head_count_kv': 8,
    'llama.attention.layer_norm_rms_epsilon': 1e-5,
    'llama.rope.freq_base': 500000,
    'tokenizer.ggml.bos_token_id': 128000,
    'tokenizer.ggml.eos_token_id': 128001,
  };
  const tensors = { 'token_embd.weight': [128256, 2048] };

  it('gives the same shape as the Hugging Face configuration of the same model', () => {
    expect(parse(metadata, tensors).config).toEqual(parseHfConfig(llama).config);
  });

  it('gives the shape of the recorded SmolLM2 file', () => {
    const recorded = JSON.parse(readFileSync(join(FIXTURES, 'smollm2-135m', 'gguf.json'), 'utf8'));
    expect(parse(recorded.metadata, { 'token_embd.weight': [49152, 576] }).config).toMatchObject({
      numLayers: 30,
      numHeads: 9,
      numKvHeads: 3,
      headDim: 64,
      vocabSize: 49152,
      tiedEmbeddings: true,
      positions: { kind: 'rotary', theta: 100000, rotaryDim: 64 },
      eosTokenIds: [2],
    });
  });

  const factors = Array.from({ length: 32 }, (_, index) => 1 + index);
  it.each([
    [
      'an untied head where the file has one',
      {},
      { 'output.weight': [128256, 2048] },
      undefined,
      { tiedEmbeddings: false },
    ],
    [
      'biases where the file has them',
      {},
      { 'blk.0.attn_q.bias': [2048] },
      undefined,
      { bias: { qkv: true, output: false, ffn: false } },
    ],
    [
      'each kind of end token once',
      { 'tokenizer.ggml.eot_token_id': 128009, 'tokenizer.ggml.eom_token_id': 128001 },
      {},
      undefined,
      { eosTokenIds: [128001, 128009] },
    ],
    [
      'a head dimension of its own',
      { 'llama.attention.key_length': 128, 'llama.attention.value_length': 128 },
      {},
      undefined,
      { headDim: 128 },
    ],
    [
      'linear scaling',
      { 'llama.rope.scaling.type': 'linear', 'llama.rope.scaling.factor': 4 },
      {},
      undefined,
      { positions: { scaling: { kind: 'linear', factor: 4 } } },
    ],
    ['frequencies divided one by one', {}, {}, factors, { positions: { scaling: { kind: 'factors', factors } } }],
  ])('reads %s', (_, change, more, ropeFactors, expected) => {
    expect(parse({ ...metadata, ...change }, { ...tensors, ...more }, ropeFactors).config).toMatchObject(expected);
  });

  it.each([
    [
      'another family',
      { 'general.architecture': 'mamba' },
      undefined,
      'UNSUPPORTED',
      /general\.architecture is "mamba"; supported families are llama/,
    ],
    [
      'more experts for a row than there are',
      { 'llama.expert_count': 2, 'llama.expert_used_count': 3 },
      undefined,
      'BAD_WEIGHTS',
      /a row uses 3 experts, and there are 2/,
    ],
    [
      'rotation of a part of the head',
      { 'llama.rope.dimension_count': 32 },
      undefined,
      'UNSUPPORTED',
      /rope\.dimension_count: found 32; supported: 64/,
    ],
    [
      'another rotary scaling',
      { 'llama.rope.scaling.type': 'yarn' },
      undefined,
      'UNSUPPORTED',
      /rope\.scaling\.type: found "yarn"/,
    ],
    [
      'a missing size',
      { 'llama.block_count': undefined },
      undefined,
      'BAD_WEIGHTS',
      /llama\.block_count: needed a whole number/,
    ],
    [
      'factors for another head',
      {},
      [1, 2],
      'BAD_WEIGHTS',
      /rope_freqs\.weight: needed 32 values, half of a head, found 2/,
    ],
  ])('refuses %s', (_, change, ropeFactors, code, message) => {
    expect(() => parse({ ...metadata, ...change }, tensors, ropeFactors)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });
});

function parse(
  metadata: object,
  tensors: Readonly<Record<string, readonly number[]>>,
  ropeFactors?: readonly number[],
) {
  return parseGgufConfig(
    new Map(Object.entries(metadata)),
    { shape: (name) => tensors[name], ropeFactors },
    'model.gguf',
  );
}
