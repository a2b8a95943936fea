/**
 * The plain reference: every formula written out, one row at a time, sums in double precision.
 *
 * It is the oracle that every other backend is compared with; nothing here is tuned.
 */

import { type PackedMatrix, widen } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, type TensorName, valueSize } from '../model/layers.js';
import { numericsOf } from '../numerics.js';
import type { Backend, FeedParts, HeadRequest, HeadResult, KvBlock, LayerWeights, Projection } from './backend.js';
import { KV_BLOCK_TOKENS } from './backend.js';
import { type RotaryTables, rotaryTables } from './rotary.js';

export async function openReference(config: ModelConfig): Promise<Backend> {
  const rotary = rotaryTables(config);
  return {
    name: 'reference',
    numerics: numericsOf.reference,
    project: async (weights, hidden, positions) => project(config, weights, hidden, positions, rotary),
    attendRows: async (queries, keys, values, mask) => attendRows(config, queries, keys, values, mask),
    attendCache: async (queries, blocks, slots, mask) => attendCache(config, queries, blocks, slots, mask),
    finish: async (weights, hidden, attended) => finish(config, weights, hidden, attended),
    norm: async (hidden, weight, bias) => normalise(config, hidden, weight, bias),
    multiply: async (input, part, bias) => product(input, widen(part), part.shape[1]!, bias),
    rotate: async (joined, positions) => rotateJoined(config, joined, positions, rotary),
    feed: async (input, parts) => feed(config, input, parts),
    head: async (part, request) => head(part, request),
    close: async () => {},
  };
}

/** y = x Wᵀ + b. x (rows, in), W (out, in), b (out). */
export function product(x: Float32Array, weight: Float32Array, inSize: number, bias?: Float32Array): Float32Array {
  const rows = x.length / inSize;
  const outSize = weight.length / inSize;
  const y = new Float32Array(rows * outSize);
  for (let row = 0; row < rows; row++) {
    for (let out = 0; out < outSize; out++) {
      let sum = bias?.[out] ?? 0;
      for (let i = 0; i < inSize; i++) sum += x[row * inSize + i]! * weight[out * inSize + i]!;
      y[row * outSize + out] = sum;
    }
  }
  return y;
}

/** RMSNorm, or LayerNorm where there is a bias, over rows of `size`. */
export function normalise(config: ModelConfig, x: Float32Array, weight: Float32Array, bias?: Float32Array) {
  const size = config.hiddenSize;
  const y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += size) {
    let mean = 0;
    if (config.norm.kind === 'layer') {
      for (let i = 0; i < size; i++) mean += x[start + i]! / size;
    }
    let variance = 0;
    for (let i = 0; i < size; i++) variance += (x[start + i]! - mean) ** 2 / size;
    const scale = 1 / Math.sqrt(variance + config.norm.eps);
    for (let i = 0; i < size; i++) y[start + i] = (x[start + i]! - mean) * scale * weight[i]! + (bias?.[i] ?? 0);
  }
  return y;
}

/** Softmax of one row, in place. The maximum is subtracted so that exp cannot overflow. */
export function softmax(scores: Float64Array): void {
  let max = -Infinity;
  for (const score of scores) max = Math.max(max, score);
  let sum = 0;
  for (let i = 0; i < scores.length; i++) {
    scores[i] = Math.exp(scores[i]! - max);
    sum += scores[i]!;
  }
  for (let i = 0; i < scores.length; i++) scores[i] = scores[i]! / sum;
}

function project(
  config: ModelConfig,
  weights: LayerWeights,
  hidden: Float32Array,
  positions: Int32Array,
  rotary: RotaryTables | undefined,
): Projection {
  const { attentionNorm, attentionNormBias, qkv, qkvBias } = widenAll(weights);
  const input = config.norm.placement === 'pre' ? normalise(config, hidden, attentionNorm!, attentionNormBias) : hidden;
  return rotateJoined(config, product(input, qkv!, config.hiddenSize, qkvBias), positions, rotary);
}

function rotateJoined(
  config: ModelConfig,
  joined: Float32Array,
  positions: Int32Array,
  rotary: RotaryTables | undefined,
): Projection {
  const rows = positions.length;
  const [left, right] = [queryKeySize(config), valueSize(config)];
  const queryKey = new Float32Array(rows * left);
  const value = new Float32Array(rows * right);
  for (let row = 0; row < rows; row++) {
    const start = row * (left + right);
    queryKey.set(joined.subarray(start, start + left), row * left);
    value.set(joined.subarray(start + left, start + left + right), row * right);
    if (rotary) rotate(queryKey.subarray(row * left, (row + 1) * left), config.headDim, positions[row]!, rotary);
  }
  return { queryKey, value };
}

/** Turns dimension i of every head with dimension i + rotaryDim / 2. */
function rotate(heads: Float32Array, headDim: number, position: number, { cos, sin, rotaryDim }: RotaryTables): void {
  const half = rotaryDim / 2;
  for (let head = 0; head < heads.length; head += headDim) {
    for (let i = 0; i < half; i++) {
      const [c, s] = [cos[position * half + i]!, sin[position * half + i]!];
      const [a, b] = [heads[head + i]!, heads[head + half + i]!];
      heads[head + i] = a * c - b * s;
      heads[head + half + i] = b * c + a * s;
    }
  }
}

/** One query head over `count` keys, whose place and mask the callbacks tell; adds to `out`. */
function attendHead(
  query: Float32Array,
  count: number,
  key: (index: number) => Float32Array,
  value: (index: number) => Float32Array,
  mask: Float32Array,
  out: Float32Array,
): void {
  const scale = 1 / Math.sqrt(query.length);
  const scores = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    let dot = 0;
    const k = key(index);
    for (let i = 0; i < query.length; i++) dot += query[i]! * k[i]!;
    scores[index] = dot * scale + mask[index]!;
  }
  softmax(scores);
  const sums = new Float64Array(out.length);
  for (let index = 0; index < count; index++) {
    const v = value(index);
    for (let i = 0; i < out.length; i++) sums[i]! += scores[index]! * v[i]!;
  }
  out.set(sums);
}

function attendRows(
  config: ModelConfig,
  queries: Float32Array,
  keys: Float32Array,
  values: Float32Array,
  mask: Float32Array,
): Float32Array {
  const { numHeads, numKvHeads, headDim } = config;
  const [width, valueWidth] = [queryKeySize(config), valueSize(config)];
  const count = keys.length / width;
  const rows = queries.length / width;
  const out = new Float32Array(rows * numHeads * headDim);
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < numHeads; head++) {
      const kvHead = Math.floor((head * numKvHeads) / numHeads);
      const query = queries.subarray(row * width + head * headDim, row * width + (head + 1) * headDim);
      const keyStart = (numHeads + kvHead) * headDim;
      attendHead(
        query,
        count,
        (index) => keys.subarray(index * width + keyStart, index * width + keyStart + headDim),
        (index) => values.subarray(index * valueWidth + kvHead * headDim, index * valueWidth + (kvHead + 1) * headDim),
        mask.subarray(row * count, (row + 1) * count),
        out.subarray((row * numHeads + head) * headDim, (row * numHeads + head + 1) * headDim),
      );
    }
  }
  return out;
}

function attendCache(
  config: ModelConfig,
  queries: Float32Array,
  blocks: readonly KvBlock[],
  slots: number,
  mask: Float32Array,
): Float32Array {
  const { numHeads, numKvHeads, headDim } = config;
  const width = queryKeySize(config);
  const count = blocks.length * KV_BLOCK_TOKENS;
  const out = new Float32Array(slots * numHeads * headDim);
  for (let slot = 0; slot < slots; slot++) {
    for (let head = 0; head < numHeads; head++) {
      const kvHead = Math.floor((head * numKvHeads) / numHeads);
      const cached = (part: 'key' | 'value') => (position: number) => {
        const row = (slot * numKvHeads + kvHead) * KV_BLOCK_TOKENS + (position % KV_BLOCK_TOKENS);
        const data = blocks[Math.floor(position / KV_BLOCK_TOKENS)]![part];
        return data.subarray(row * headDim, (row + 1) * headDim);
      };
      attendHead(
        queries.subarray(slot * width + head * headDim, slot * width + (head + 1) * headDim),
        count,
        cached('key'),
        cached('value'),
        mask.subarray(slot * count, (slot + 1) * count),
        out.subarray((slot * numHeads + head) * headDim, (slot * numHeads + head + 1) * headDim),
      );
    }
  }
  return out;
}

function finish(config: ModelConfig, weights: LayerWeights, hidden: Float32Array, attended: Float32Array) {
  const { hiddenSize, ffnSize, numHeads, headDim, norm } = config;
  const tensors = widenAll(weights);
  const norm1 = (x: Float32Array) => normalise(config, x, tensors.attentionNorm!, tensors.attentionNormBias);
  const norm2 = (x: Float32Array) => normalise(config, x, tensors.ffnNorm!, tensors.ffnNormBias);
  const mixed = add(hidden, product(attended, tensors.output!, numHeads * headDim, tensors.outputBias));
  const residual = norm.placement === 'post' ? norm1(mixed) : mixed;
  const input = norm.placement === 'pre' ? norm2(residual) : residual;
  const up = product(input, tensors.up!, hiddenSize, tensors.upBias);
  const inner = gated(config, up, tensors.gate && product(input, tensors.gate, hiddenSize));
  const result = add(residual, product(inner, tensors.down!, ffnSize, tensors.downBias));
  return norm.placement === 'post' ? norm2(result) : result;
}

function feed(config: ModelConfig, input: Float32Array, { gate, up, upBias }: FeedParts): Float32Array {
  const size = config.hiddenSize;
  return gated(config, product(input, widen(up), size, upBias), gate && product(input, widen(gate), size));
}

function gated(config: ModelConfig, up: Float32Array, gate: Float32Array | undefined): Float32Array {
  return up.map((value, i) => (gate ? activate(config, gate[i]!) * value : activate(config, value)));
}

function widenAll(weights: LayerWeights): Partial<Record<TensorName, Float32Array>> {
  return Object.fromEntries(Object.entries(weights).map(([name, matrix]) => [name, widen(matrix)]));
}

function activate(config: ModelConfig, x: number): number {
  switch (config.ffn.activation) {
    case 'relu':
      return Math.max(0, x);
    case 'silu':
      return x / (1 + Math.exp(-x));
  }
}

function add(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + b[i]!);
}

function head(part: PackedMatrix, request: HeadRequest): HeadResult {
  const [vocabSize, width] = part.shape as [number, number];
  const logits = product(request.input, widen(part), width);
  const rows = logits.length / vocabSize;
  const logSumExp = new Float32Array(rows);
  const topIds = new Int32Array(rows * request.top);
  const topLogits = new Float32Array(rows * request.top);
  for (let row = 0; row < rows; row++) {
    const one = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    const ranked = Array.from(one.keys()).sort((a, b) => one[b]! - one[a]! || a - b);
    const max = one[ranked[0]!]!;
    let sum = 0;
    for (const logit of one) sum += Math.exp(logit - max);
    logSumExp[row] = max + Math.log(sum);
    for (let i = 0; i < request.top; i++) {
      topIds[row * request.top + i] = ranked[i]!;
      topLogits[row * request.top + i] = one[ranked[i]!]!;
    }
  }
  const targets = request.targets;
  const targetLogit = (id: number, i: number) => logits[Math.floor(i / targets!.perRow) * vocabSize + id]!;
  return {
    logSumExp,
    topIds,
    topLogits,
    ...(targets && { targetLogits: Float32Array.from(targets.ids, targetLogit) }),
    ...(request.all && { logits }),
  };
}
