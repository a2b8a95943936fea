/** How fast this machine computes, through the backend that runs use: by form of the weights, by width, by rows. */
import { type Backend, KV_BLOCK_TOKENS, type LayerWeights, MASKED } from './backends/backend.js';
import { toFloat16 } from './memory/float16.js';
import { slotBytes, slotValues } from './memory/kv-layout.js';
import { copyPacked, float32Matrix, type PackedMatrix, type PackedType, packedBytes } from './memory/packed.js';
import { dequantize, GROUP_SIZE, type QuantizedBits, quantize } from './memory/quantize.js';
import { noStream } from './memory/weight-stream.js';
import type { ModelConfig } from './model/config.js';
import { layerTensors, queryKeySize, valueSize } from './model/layers.js';
import { namedShape } from './model/named-shapes.js';
import { type Random, seededRandom } from './model/random.js';
import { besideProducts, type LayerRates } from './policy/cost-model.js';
import type { Curve } from './policy/hardware.js';
import { activationRowBytes } from './policy/memory-plan.js';
import { mostPartBytes } from './policy/policy.js';
import { streamedCompute } from './schedule/streamed.js';

/** A layer to measure attention and everything between the products with; its width is that of the products. */
export function probeConfig(width: number): ModelConfig {
  const shape = namedShape('llama-1.1b');
  const numHeads = width / shape.headDim;
  return {
    ...shape,
    hiddenSize: width,
    embeddingSize: width,
    numHeads,
    numKvHeads: Math.max(1, Math.floor(numHeads / 8)),
    ffnSize: 3 * width,
  };
}

/** What is measured, and for how long at least. */
export interface Timer {
  readonly backend: Backend;
  readonly milliseconds: number;
}

const LEAST_RUNS = 3;

/** The median of several runs, in seconds: what is usual, and not what can be reached. The first run warms up. */
export async function medianSeconds({ milliseconds }: Timer, act: () => Promise<unknown> | unknown): Promise<number> {
  await act();
  const seconds: number[] = [];
  const end = performance.now() + milliseconds;
  do {
    const start = performance.now();
    await act();
    seconds.push((performance.now() - start) / 1000);
  } while (performance.now() < end || seconds.length < LEAST_RUNS);
  return seconds.sort((a, b) => a - b)[Math.floor(seconds.length / 2)]!;
}

export interface CurveRequest {
  readonly form: PackedType;
  readonly config: ModelConfig;
  readonly rows: readonly number[];
}

/** More than the caches hold: a run does not find there what it used a sweep ago. */
const UNCACHED_BYTES = 2 ** 27;

/**
 * FLOP/s of a layer's products in this form, layers in memory taking turns: in parts, from memory rather than from the
 * caches, and with all that comes with them but what the cost model counts beside.
 */
export async function measureCurve(
  timer: Timer,
  { form, config, rows: rowCounts }: CurveRequest,
  beside: LayerRates,
): Promise<Curve> {
  const weights = layerOf(form, config);
  const matrices = Object.values(weights).filter(({ shape }) => shape.length === 2);
  const bytes = matrices.reduce((sum, matrix) => sum + packedBytes(matrix), 0);
  const count = Math.min(config.numLayers, Math.ceil(UNCACHED_BYTES / bytes));
  const layers = [{}, weights, ...Array.from({ length: count - 1 }, () => copyOf(weights))];
  const resident = { layers, embeddings: noEmbeddings, partBytes: mostPartBytes(form) };
  const compute = streamedCompute(timer.backend, config, resident, { stream: noStream(), openExperts: noStream });
  const flops = 2 * matrices.reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
  const points: [number, number][] = [];
  let turn = 0;
  for (const rows of rowCounts) {
    const hidden = randomValues(rows * config.hiddenSize);
    const attended = randomValues(rows * config.numHeads * config.headDim);
    const positions = Int32Array.from({ length: rows }, (_, row) => row);
    const seconds = await medianSeconds(timer, async () => {
      const layer = turn++ % count;
      await compute.project(layer, hidden, positions);
      await compute.finish(layer, hidden, attended);
    });
    const products = Math.max(seconds / 2, seconds - besideProducts(config, beside, rows));
    points.push([rows, (rows * flops) / products]);
  }
  return points;
}

/** Random weights of a decoder layer. */
function layerOf(form: PackedType, config: ModelConfig): Record<string, PackedMatrix> {
  const tensors = layerTensors(config, 1).map(({ name, shape }): [string, PackedMatrix] => {
    if (shape.length === 2) return [name, randomPart(form, shape as [number, number])];
    return [name, float32Matrix(randomValues(shape[0]!), shape)];
  });
  return Object.fromEntries(tensors);
}

/** In memory of its own. */
function copyOf(weights: Readonly<Record<string, PackedMatrix>>): LayerWeights {
  const copies = Object.entries(weights).map(([name, matrix]) => {
    return [name, copyPacked(matrix, new Uint8Array(packedBytes(matrix)))];
  });
  return Object.fromEntries(copies);
}

function noEmbeddings(): never {
  throw new Error('layers alone are measured');
}

/** Of the same points: the rate that the mean of their times makes. */
export function meanCurve(curves: readonly Curve[]): Curve {
  return curves[0]!.map(([rows], i) => {
    const seconds = curves.reduce((sum, curve) => sum + 1 / curve[i]![1], 0);
    return [rows, curves.length / seconds];
  });
}

/** FLOP/s of attention among the rows of one prompt, each seeing itself and those before it. */
export async function measurePromptAttention(
  timer: Timer,
  config: ModelConfig,
  lengths: readonly number[],
): Promise<Curve> {
  const points: [number, number][] = [];
  for (const rows of lengths) {
    const keys = randomValues(rows * queryKeySize(config));
    const values = randomValues(rows * valueSize(config));
    const mask = Float32Array.from({ length: rows * rows }, (_, i) => (i % rows > Math.floor(i / rows) ? MASKED : 0));
    const seconds = await medianSeconds(timer, () => timer.backend.attendRows(keys, keys, values, mask));
    points.push([rows, (4 * config.numHeads * config.headDim * rows * (rows + 1)) / 2 / seconds]);
  }
  return points;
}

const SLOTS = 32;
const CACHED_BLOCKS = 8;

/** Bytes of keys and values a second, of one new row for each of some sequences. */
export async function measureCacheAttention(timer: Timer, config: ModelConfig): Promise<number> {
  const size = SLOTS * slotValues(config);
  const blocks = Array.from({ length: CACHED_BLOCKS }, () => ({ key: randomValues(size), value: randomValues(size) }));
  const queries = randomValues(SLOTS * queryKeySize(config));
  const mask = new Float32Array(SLOTS * CACHED_BLOCKS * KV_BLOCK_TOKENS);
  const seconds = await medianSeconds(timer, () => timer.backend.attendCache(queries, blocks, SLOTS, mask));
  return (2 * SLOTS * CACHED_BLOCKS * slotBytes(config)) / seconds;
}

const ELEMENT_ROWS = 128;

/** Values a second through what a layer does between its products: two norms, a rotation, two sums, a copy of each product. */
export async function measureElements(timer: Timer, config: ModelConfig): Promise<number> {
  const { hiddenSize, ffnSize } = config;
  const hidden = randomValues(ELEMENT_ROWS * hiddenSize);
  const weight = randomValues(hiddenSize);
  const joined = randomValues(ELEMENT_ROWS * (queryKeySize(config) + valueSize(config)));
  const positions = Int32Array.from({ length: ELEMENT_ROWS }, (_, row) => row);
  const products = [joined, hidden, randomValues(ELEMENT_ROWS * ffnSize), hidden];
  const seconds = await medianSeconds(timer, async () => {
    await timer.backend.norm(hidden, weight);
    await timer.backend.rotate(0, {}, joined, positions);
    await timer.backend.norm(hidden, weight);
    for (const product of products) new Float32Array(product.length).set(product);
    for (let times = 0; times < 2; times++) sum(hidden, joined);
  });
  return (ELEMENT_ROWS * activationRowBytes(config)) / 4 / seconds;
}

/** As residuals are added. */
function sum(a: Float32Array, b: Float32Array): Float32Array {
  const result = new Float32Array(a.length);
  for (let i = 0; i < result.length; i++) result[i] = a[i]! + b[i]!;
  return result;
}

/** Seconds of a call that computes next to nothing. */
export function measureCall(timer: Timer): Promise<number> {
  const [input, part] = [randomValues(GROUP_SIZE), float32Matrix(randomValues(GROUP_SIZE), [1, GROUP_SIZE])];
  return medianSeconds(timer, () => timer.backend.multiply(input, part));
}

const QUANTIZED_SHAPE = [1024, 1024] as const;

/** Values a second, of the engine's own code on one thread. */
export async function measureQuantization(
  timer: Timer,
  bits: QuantizedBits,
): Promise<{ readonly quantize: number; readonly dequantize: number }> {
  const values = randomValues(QUANTIZED_SHAPE[0] * QUANTIZED_SHAPE[1]);
  const packed = quantize(values, QUANTIZED_SHAPE, 0, bits);
  return {
    quantize: values.length / (await medianSeconds(timer, () => quantize(values, QUANTIZED_SHAPE, 0, bits))),
    dequantize: values.length / (await medianSeconds(timer, () => dequantize(packed))),
  };
}

export function randomPart(form: PackedType, shape: readonly [number, number]): PackedMatrix {
  const values = randomValues(shape[0] * shape[1]);
  if (form === 'float32') return float32Matrix(values, shape);
  if (form === 'float16') return { type: form, shape, data: toFloat16(values) };
  return { type: form, shape, groups: quantize(values, shape, 0, form === 'int8' ? 8 : 4) };
}

const random: Random = seededRandom(0);
/** Values that repeat are as good, and sooner there. */
const MOST_DIFFERENT = 2 ** 16;

export function randomValues(length: number): Float32Array {
  const values = new Float32Array(length);
  const different = Math.min(length, MOST_DIFFERENT);
  for (let i = 0; i < different; i++) values[i] = random.next() - 0.5;
  for (let filled = different; filled < length; filled *= 2)
    values.copyWithin(filled, 0, Math.min(filled, length - filled));
  return values;
}
