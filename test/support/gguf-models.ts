/**
 * GGUF files of recorded models, as llama.cpp's convert_hf_to_gguf.py writes them: its names, its keys, and what it does
 * to some tensors. Written from that program, not from the engine's reader.
 */
import { join } from 'node:path';
import { openSafetensorsDirectory } from '../../engine/model/safetensors.js';
import { readRows } from '../../engine/model/tensors.js';
import { FIXTURES, readJsonFixture } from './golden.js';
import { floats, type NewTensor, type Typed } from './model-files.js';

type Config = Readonly<Record<string, number | null | boolean | string>>;

interface Converted {
  readonly metadata: Record<string, Typed>;
  readonly tensors: NewTensor[];
}

/** Modules of a layer, and of the whole, by Hugging Face's names; where families differ, in `own`. */
const shared: Readonly<Record<string, string>> = {
  embed_tokens: 'token_embd',
  norm: 'output_norm',
  lm_head: 'output',
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'self_attn.o_proj': 'attn_output',
  'self_attn.qkv_proj': 'attn_qkv',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.gate_up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'mlp.gate': 'ffn_gate_inp',
  'block_sparse_moe.gate': 'ffn_gate_inp',
  'mlp.shared_expert_gate': 'ffn_gate_inp_shexp',
  'mlp.shared_expert.gate_proj': 'ffn_gate_shexp',
  'mlp.shared_expert.up_proj': 'ffn_up_shexp',
  'mlp.shared_expert.down_proj': 'ffn_down_shexp',
};
const gemma = {
  post_attention_layernorm: 'post_attention_norm',
  pre_feedforward_layernorm: 'ffn_norm',
  post_feedforward_layernorm: 'post_ffw_norm',
};
const neox = {
  embed_in: 'token_embd',
  final_layer_norm: 'output_norm',
  embed_out: 'output',
  'attention.query_key_value': 'attn_qkv',
  'attention.dense': 'attn_output',
  'mlp.dense_h_to_4h': 'ffn_up',
  'mlp.dense_4h_to_h': 'ffn_down',
};
const expertParts: Readonly<Record<string, string>> = {
  w1: 'ffn_gate_exps',
  w3: 'ffn_up_exps',
  w2: 'ffn_down_exps',
  gate_proj: 'ffn_gate_exps',
  up_proj: 'ffn_up_exps',
  down_proj: 'ffn_down_exps',
};
const architectures: Readonly<Record<string, string>> = {
  mixtral: 'llama',
  mistral: 'llama',
  gpt_neox: 'gptneox',
  qwen2_moe: 'qwen2moe',
  qwen3_moe: 'qwen3moe',
};

/** @param model a folder of `test/fixtures/models` */
export async function convertToGguf(model: string): Promise<Converted> {
  const config = readJsonFixture<Config>('models', model, 'config.json');
  const type = String(config.model_type);
  const files = await openSafetensorsDirectory(join(FIXTURES, 'models', model));
  const tensors: NewTensor[] = [];
  const experts = new Map<string, { values: Float32Array[]; shape: readonly number[] }>();
  for (const [name, stored] of files.tensors) {
    if (/\.(inv_freq|masked_bias)$|attention\.bias$/.test(name)) continue;
    const values = new Float32Array(stored.shape.reduce((product, size) => product * size, 1));
    await readRows(stored, 0, stored.shape[0]!, values);
    const [, layer, module, suffix] = /(?:layers\.(\d+)\.)?([\w.]+)\.(weight|bias)$/.exec(shortened(name))!;
    const expert = /experts\.(\d+)\.(\w+)$/.exec(module!);
    if (expert) {
      const key = `blk.${layer}.${expertParts[expert[2]!]}.weight`;
      const found = experts.get(key) ?? { values: [], shape: stored.shape };
      found.values[Number(expert[1])] = values;
      experts.set(key, found);
      continue;
    }
    const own = type.startsWith('gemma') ? gemma : type === 'gpt_neox' ? neox : {};
    const file = { ...shared, ...own }[module!]!;
    const changed = change(type, config, file, values, stored.shape);
    const shape = file === 'ffn_gate_inp_shexp' ? [stored.shape[1]!] : stored.shape;
    const prefix = layer === undefined ? '' : `blk.${layer}.`;
    tensors.push({ name: `${prefix}${file}.${suffix}`, type: 0, shape, bytes: floats(...changed) });
  }
  for (const [name, { values, shape }] of experts) {
    const bytes = Buffer.concat(values.map((one) => new Uint8Array(one.buffer)));
    tensors.push({ name, type: 0, shape: [values.length, ...shape], bytes });
  }
  await files.close();
  return { metadata: metadataOf(type, config), tensors };
}

function shortened(name: string): string {
  return name.replace(/^(model|gpt_neox)\./, '');
}

function change(
  type: string,
  config: Config,
  file: string,
  values: Float32Array,
  [rows, width = 1]: readonly number[],
): Float32Array {
  const heads = Number(config.num_attention_heads);
  const headDim = Number(config.head_dim ?? Number(config.hidden_size) / heads);
  if (type.startsWith('gemma') && file.endsWith('norm')) return values.map((value) => value + 1);
  if (/^(llama|mistral|mixtral)$/.test(type) && /^attn_[qk]$/.test(file)) {
    // Halves of a head, row by row in turn.
    return reordered(values, width, rows!, (row) => {
      const within = row % headDim;
      return row - within + (within % 2) * (headDim / 2) + Math.floor(within / 2);
    });
  }
  if (file === 'attn_qkv' && type === 'gpt_neox') {
    // From each head's three to three of all heads.
    return reordered(values, width, rows!, (row) => {
      const part = Math.floor(row / (heads * headDim));
      const head = Math.floor((row % (heads * headDim)) / headDim);
      return (head * 3 + part) * headDim + (row % headDim);
    });
  }
  return values;
}

/** @param from for a row of the result, the row that it was */
function reordered(values: Float32Array, width: number, rows: number, from: (row: number) => number): Float32Array {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    result.set(values.subarray(from(row) * width, (from(row) + 1) * width), row * width);
  }
  return result;
}

function metadataOf(type: string, config: Config): Record<string, Typed> {
  const architecture = architectures[type] ?? type;
  const entries: Record<string, Typed> = { 'general.architecture': ['text', architecture] };
  const put = (key: string, kind: 'u32' | 'f32' | 'bool', value: unknown) => {
    if (value !== undefined && value !== null) entries[`${architecture}.${key}`] = [kind, value];
  };
  const heads = Number(config.num_attention_heads);
  const headDim = Number(config.head_dim ?? Number(config.hidden_size) / heads);
  const rope = (config.rope_parameters ?? {}) as unknown as Record<string, number>;
  put('block_count', 'u32', config.num_hidden_layers);
  put('context_length', 'u32', config.max_position_embeddings);
  put('embedding_length', 'u32', config.hidden_size);
  put('feed_forward_length', 'u32', config.intermediate_size);
  put('attention.head_count', 'u32', heads);
  put('rope.freq_base', 'f32', config.rope_theta ?? rope.rope_theta);
  put('rope.dimension_count', 'u32', headDim * Number(config.rotary_pct ?? config.partial_rotary_factor ?? 1));
  put('attention.layer_norm_epsilon', 'f32', config.layer_norm_eps);
  put('attention.layer_norm_rms_epsilon', 'f32', config.rms_norm_eps);
  put('use_parallel_residual', 'bool', config.use_parallel_residual);
  if (type !== 'gpt_neox') put('attention.head_count_kv', 'u32', config.num_key_value_heads);
  if (config.head_dim !== undefined) {
    put('attention.key_length', 'u32', headDim);
    put('attention.value_length', 'u32', headDim);
  }
  if (type === 'gemma2' || type === 'phi3') put('attention.sliding_window', 'u32', config.sliding_window);
  put('attn_logit_softcapping', 'f32', config.attn_logit_softcapping);
  put('final_logit_softcapping', 'f32', config.final_logit_softcapping);
  put('expert_count', 'u32', config.num_local_experts ?? config.num_experts);
  put('expert_used_count', 'u32', config.num_experts_per_tok);
  put('expert_feed_forward_length', 'u32', config.moe_intermediate_size);
  put('expert_shared_feed_forward_length', 'u32', config.shared_expert_intermediate_size);
  return entries;
}
