/**
 * The plain reference: every formula written out, one row at a time, sums in double precision.
 *
 * It is the oracle that every other backend is compared with; nothing here is tuned.
 */

import { readKv } from '../memory/kv-form.js';
import { type PackedMatrix, widen } from '../memory/packed.js';
import { attentionScale } from '../model/attention.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, type TensorName, valueSize } from '../model/layers.js';
import { numericsOf } from '../numerics.js';
import type {
  Backend,
  BackendOptions,
  Columns,
  FeedParts,
  HeadNorms,
  HeadRequest,
  HeadResult,
  KvBlock,
  LayerWeights,
  Projection,
} from './backend.js';
import { KV_BLOCK_TOKENS, MASKED } from './backend.js';
import { activate, normalise, product, softcapped, softmax } from './formulas.js';
import { type RotaryTables, rotaryByLayer } from './rotary.js';
import { putColumns } from './row-tiles.js';
import { isSparse, keepLargest, keptPositions } from './sparse-attention.js';

export async function openReference(config: ModelConfig, { computeBits }: BackendOptions): Promise<Backend> {
  const rotary = rotaryByLayer(config);
  return {
    name: 'reference',
    sharesBlocks: false,
    numerics: numericsOf('reference', { computeBits, ...config.kv }),
    keep: async (layer, weights) => ({
      project: async (hidden, positions) => project(config, weights, hidden, positions, rotary(layer)),
      finish: async (hidden, attended) => finish(config, weights, hidden, attended),
    }),
    attendRows: async (queries, keys, values, mask) => attendRows(config, queries, keys, values, mask),
    attendCache: async (queries, blocks, slots, mask) => attendCache(config, queries, blocks, slots, mask),
    norm: async (hidden, weight, bias) => normalise(config, hidden, weight, bias),
    multiply: async (input, part, bias, into) => put(product(input, widen(part), part.shape[1]!, bias), part, into),
    rotate: async (layer, norms, joined, positions) => rotateJoined(config, norms, joined, positions, rotary(layer)),
    feed: async (input, parts, into) => put(feed(config, input, parts), parts.up, into),
    head: async (part, request) => head(config, part, request),
    close: async () => {},
  };
}

function project(
  config: ModelConfig,
  weights: LayerWeights,
  hidden: Float32Array,
  positions: Int32Array,
  rotary: RotaryTables | undefined,
): Projection {
  const { attentionNorm, attentionNormBias, qkv, qkvBias } = widenAll(weights);
  const input =
    config.norm.placement === 'post' ? hidden : normalise(config, hidden, attentionNorm!, attentionNormBias);
  return rotateJoined(config, weights, product(input, qkv!, config.hiddenSize, qkvBias), positions, rotary);
}

function rotateJoined(
  config: ModelConfig,
  { queryNorm, keyNorm }: HeadNorms,
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
    const query = joined.subarray(start, start + config.numHeads * config.headDim);
    const key = joined.subarray(start + query.length, start + left);
    queryKey.set(queryNorm ? normalise(config, query, widen(queryNorm)) : query, row * left);
    queryKey.set(keyNorm ? normalise(config, key, widen(keyNorm)) : key, row * left + query.length);
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
  config: ModelConfig,
  query: Float32Array,
  count: number,
  key: (index: number) => Float32Array,
  value: (index: number) => Float32Array,
  mask: Float32Array,
  out: Float32Array,
  kept = count,
): void {
  const scale = attentionScale(config);
  const scores = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    let dot = 0;
    const k = key(index);
    for (let i = 0; i < query.length; i++) dot += query[i]! * k[i]!;
    scores[index] = softcapped(dot * scale, config.attention?.softcap) + mask[index]!;
  }
  if (kept < count) keepLargest(scores, kept, MASKED);
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
        config,
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
  const kept = isSparse(config) ? keptPositions(mask, slots, config.kv!.share!) : undefined;
  for (let slot = 0; slot < slots; slot++) {
    for (let head = 0; head < numHeads; head++) {
      const kvHead = Math.floor((head * numKvHeads) / numHeads);
      const cached = (part: 'key' | 'value') => (position: number) => {
        const block = blocks[Math.floor(position / KV_BLOCK_TOKENS)]![part];
        return readKv(config, block, { slot, head: kvHead, row: position % KV_BLOCK_TOKENS });
      };
      attendHead(
        config,
        queries.subarray(slot * width + head * headDim, slot * width + (head + 1) * headDim),
        count,
        cached('key'),
        cached('value'),
        mask.subarray(slot * count, (slot + 1) * count),
        out.subarray((slot * numHeads + head) * headDim, (slot * numHeads + head + 1) * headDim),
        kept?.[slot],
      );
    }
  }
  return out;
}

function finish(config: ModelConfig, weights: LayerWeights, hidden: Float32Array, attended: Float32Array) {
  const { numHeads, headDim, norm, parallelResidual } = config;
  const tensors = widenAll(weights);
  const normBy = (name: 'attentionNorm' | 'attentionOutNorm' | 'ffnNorm' | 'ffnOutNorm') => (x: Float32Array) =>
    normalise(config, x, tensors[name]!, tensors[`${name}Bias`]);
  const output = product(attended, tensors.output!, numHeads * headDim, tensors.outputBias);
  switch (norm.placement) {
    case 'pre': {
      const mixed = add(hidden, output);
      return add(mixed, feedForward(config, tensors, normBy('ffnNorm')(parallelResidual ? hidden : mixed)));
    }
    case 'post': {
      const mixed = normBy('attentionNorm')(add(hidden, output));
      return normBy('ffnNorm')(add(mixed, feedForward(config, tensors, mixed)));
    }
    case 'both': {
      const mixed = add(hidden, normBy('attentionOutNorm')(output));
      return add(mixed, normBy('ffnOutNorm')(feedForward(config, tensors, normBy('ffnNorm')(mixed))));
    }
  }
}

function feedForward(config: ModelConfig, tensors: WideTensors, input: Float32Array): Float32Array {
  const { hiddenSize, ffnSize } = config;
  const up = product(input, tensors.up!, hiddenSize, tensors.upBias);
  const gate = tensors.gate && product(input, tensors.gate, hiddenSize, tensors.gateBias);
  return product(gated(config, up, gate), tensors.down!, ffnSize, tensors.downBias);
}

/** @returns what a product with the part is in: `into`, where there is one */
function put(product: Float32Array, { shape }: PackedMatrix, into: Columns | undefined): Float32Array {
  if (!into) return product;
  const width = shape[0]!;
  putColumns(into, product, width, { start: 0, end: product.length / width });
  return into.rows;
}

function feed(config: ModelConfig, input: Float32Array, { gate, gateBias, up, upBias }: FeedParts): Float32Array {
  const size = config.hiddenSize;
  return gated(config, product(input, widen(up), size, upBias), gate && product(input, widen(gate), size, gateBias));
}

function gated({ ffn }: ModelConfig, up: Float32Array, gate: Float32Array | undefined): Float32Array {
  return up.map((value, i) => (gate ? activate(ffn.activation, gate[i]!) * value : activate(ffn.activation, value)));
}

type WideTensors = Partial<Record<TensorName, Float32Array>>;

function widenAll(weights: LayerWeights): WideTensors {
  return Object.fromEntries(Object.entries(weights).map(([name, matrix]) => [name, matrix && widen(matrix)]));
}

function add(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + b[i]!);
}

function head(config: ModelConfig, part: PackedMatrix, request: HeadRequest): HeadResult {
  const [vocabSize, width] = part.shape as [number, number];
  const logits = product(request.input, widen(part), width).map((logit) => softcapped(logit, config.logitSoftcap));
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
