/**
 * Blocks of the KV cache inside a graph: the two products of attention over them, in whatever form they are kept.
 *
 * Of codes, which stand for code / scale + min, the products are of the bare codes, and scales and minima are put on what
 * comes out, which is far less: q·k = (q·codes) / scale + min·Σq. A byte's halves are multiplied with every other value of
 * the query. A slot's codes and the factors behind them are one piece of memory, which is fed twice, each time as the kind of
 * number that one of the two is: feeds are not copied, and each side is sliced out.
 */
import { kvGroups, kvPlanes, kvRowUnits } from '../memory/kv-form.js';
import { FLOAT16_MIN, GROUP_SIZE } from '../memory/quantize-groups.js';
import { attentionScale } from '../model/attention.js';
import type { ModelConfig } from '../model/config.js';
import { KV_BLOCK_TOKENS } from './backend.js';
import type { Dimension, GraphBuilder } from './onnx-graph.js';
import { MICROSOFT } from './onnx-layers.js';
import { FLOAT32, type PackedFeed } from './onnx-packed.js';

/** The keys, or values, of a block, as a graph has them. */
export interface KvInput {
  /** Queries to scores: (slots, numKvHeads, heads a key head, headDim) -> (..., KV_BLOCK_TOKENS). */
  scores(queries: string): string;
  /** The way back: weights of the positions to (..., headDim). */
  mix(weights: string): string;
}

/** Declares the inputs of the keys, or values, of a block. @param slots their number; 1 where all slots read the same */
export function kvInput(graph: GraphBuilder, config: ModelConfig, name: string, slots: Dimension): KvInput {
  const { numKvHeads, headDim, kv } = config;
  const times = (queries: string, keys: string) => scaledProduct(graph, config, queries, keys);
  if (kv?.bits === 8 || kv?.bits === 4) return codedInput(graph, config, name, times);
  const shape = [slots, numKvHeads, KV_BLOCK_TOKENS, headDim];
  const block = kv?.bits === 16 ? halfInput(graph, config, name, slots) : graph.input(name, 'float32', shape);
  return { scores: (queries) => times(queries, block), mix: (weights) => graph.node('MatMul', [weights, block]) };
}

/** Of queries with keys, transposed. */
export function scaledProduct(graph: GraphBuilder, config: ModelConfig, queries: string, keys: string): string {
  const alpha = { float: attentionScale(config) };
  return graph.node('FusedMatMul', [queries, keys], { transB: 1, alpha }, MICROSOFT);
}

function halfInput(graph: GraphBuilder, config: ModelConfig, name: string, slots: Dimension): string {
  const width = 2 * kvRowUnits(config);
  const padded = graph.input(name, 'float16', [slots, config.numKvHeads, KV_BLOCK_TOKENS, width]);
  return columns(graph, graph.node('Cast', [padded], { to: FLOAT32 }), [0, config.headDim], width);
}

/** Columns of a query or a value that share a scale, with what was made of them. */
interface CodedGroup {
  readonly first: number;
  readonly end: number;
  /** (slots, numKvHeads, 1, KV_BLOCK_TOKENS) */
  readonly inverse: string;
  readonly min: string;
  /** float32: all columns, or the even ones and the odd ones. (slots, numKvHeads, KV_BLOCK_TOKENS, their number) */
  readonly codes: readonly string[];
}

function codedInput(
  graph: GraphBuilder,
  config: ModelConfig,
  name: string,
  times: (queries: string, keys: string) => string,
): KvInput {
  const { numKvHeads, numHeads, headDim } = config;
  const heads = numHeads / numKvHeads;
  const groups = codedGroups(graph, config, name);
  /** As many parts as there are codes: every column, or every other one. */
  const parted = (queries: string, { first, end, codes }: CodedGroup) => {
    const own = columns(graph, queries, [first, end], headDim);
    if (codes.length === 1) return [own];
    const pairs = graph.reshape(own, -1, numKvHeads, heads, (end - first) / 2, 2);
    return graph.split(pairs, 4, 1, 1).map((part) => graph.reshape(part, -1, numKvHeads, heads, (end - first) / 2));
  };
  const sumUp = (terms: readonly string[]) => terms.reduce((a, b) => graph.node('Add', [a, b]));
  const total = (value: string) => graph.node('ReduceSum', [value, graph.ints(-1)], { keepdims: 1 });
  const scale = graph.constant('float32', [1], Float32Array.of(attentionScale(config)));
  return {
    scores(queries) {
      const terms = groups.flatMap((group) => {
        const dots = sumUp(parted(queries, group).map((part, i) => times(part, group.codes[i]!)));
        const own = graph.node('Mul', [total(columns(graph, queries, [group.first, group.end], headDim)), scale]);
        return [graph.node('Mul', [dots, group.inverse]), graph.node('Mul', [own, group.min])];
      });
      return sumUp(terms);
    },
    mix(weights) {
      const parts = groups.map(({ first, end, inverse, min, codes }) => {
        const scaled = graph.node('Mul', [weights, inverse]);
        const sums = codes.map((part) => graph.node('MatMul', [scaled, part]));
        const axis = graph.ints(4);
        const pairs = sums.map((part) => graph.node('Unsqueeze', [part, axis]));
        const joined =
          sums.length === 1
            ? sums[0]!
            : graph.reshape(graph.node('Concat', pairs, { axis: 4 }), -1, numKvHeads, heads, end - first);
        return graph.node('Add', [joined, total(graph.node('Mul', [weights, min]))]);
      });
      return parts.length === 1 ? parts[0]! : graph.node('Concat', parts, { axis: 3 });
    },
  };
}

function codedGroups(graph: GraphBuilder, config: ModelConfig, name: string): CodedGroup[] {
  const { numKvHeads, headDim, kv } = config;
  const count = kvGroups(config);
  const [slotUnits, codeUnits] = [unitsOfSlot(config), kvPlanes(config)[1]!.start];
  const bytes = graph.input(name, 'uint8', ['slots', 4 * slotUnits]);
  const halves = graph.input(`${name}Factors`, 'float16', ['slots', 2 * slotUnits]);
  const slice = (value: string, from: number, to: number) =>
    graph.node('Slice', [value, graph.ints(from), graph.ints(to), graph.ints(1)]);
  const codes = graph.reshape(slice(bytes, 0, 4 * codeUnits), -1, numKvHeads, KV_BLOCK_TOKENS, rowBytes(config));
  const factors = graph.node('Cast', [slice(halves, 2 * codeUnits, 2 * slotUnits)], { to: FLOAT32 });
  const byPosition = graph.reshape(factors, -1, numKvHeads, KV_BLOCK_TOKENS, 2 * count);
  const perPosition = graph.split(byPosition, 3, ...Array<number>(2 * count).fill(1));
  const aside = (factor: string) => graph.reshape(factor, -1, numKvHeads, 1, KV_BLOCK_TOKENS);
  // Where nothing was written yet the scale is zero, and its inverse would be no number.
  const least = graph.constant('float32', [1], Float32Array.of(FLOAT16_MIN));
  const float = (part: string) => graph.node('Cast', [part], { to: FLOAT32 });
  return Array.from({ length: count }, (_, group): CodedGroup => {
    const [first, end] = [group * GROUP_SIZE, Math.min(headDim, (group + 1) * GROUP_SIZE)];
    const perByte = 8 / kv!.bits!;
    const own = columns(graph, codes, [first / perByte, end / perByte], rowBytes(config));
    const scale = graph.node('Max', [aside(perPosition[2 * group]!), least]);
    return {
      first,
      end,
      inverse: graph.node('Reciprocal', [scale]),
      min: aside(perPosition[2 * group + 1]!),
      codes: (kv!.bits === 8 ? [own] : halvesOf(graph, own)).map(float),
    };
  });
}

/** The high halves of bytes, which come first, and the low ones. */
function halvesOf(graph: GraphBuilder, bytes: string): string[] {
  const four = graph.constant('uint8', [1], Uint8Array.of(4));
  const fifteen = graph.constant('uint8', [1], Uint8Array.of(15));
  return [graph.node('BitShift', [bytes, four], { direction: 'RIGHT' }), graph.node('BitwiseAnd', [bytes, fifteen])];
}

/** Columns [first, end) of the last of four axes. */
function columns(graph: GraphBuilder, value: string, [first, end]: readonly [number, number], of: number): string {
  if (first === 0 && end === of) return value;
  return graph.node('Slice', [value, graph.ints(first), graph.ints(end), graph.ints(3)]);
}

/** Of codes, one head at one position. */
function rowBytes(config: ModelConfig): number {
  return 4 * kvPlanes(config)[0]!.units;
}

function unitsOfSlot(config: ModelConfig): number {
  return config.numKvHeads * KV_BLOCK_TOKENS * kvRowUnits(config);
}

/** What to feed for the first `slots` slots of what `kvInput` declared: slots are outermost, so they are contiguous. */
export function kvFeeds(
  config: ModelConfig,
  name: string,
  block: Float32Array,
  slots: number,
): Record<string, PackedFeed> {
  const { numKvHeads, headDim, kv } = config;
  const data = block.subarray(0, slots * unitsOfSlot(config));
  const { buffer, byteOffset, byteLength } = data;
  const shape = [slots, numKvHeads, KV_BLOCK_TOKENS];
  if (kv?.bits === undefined) return { [name]: { type: 'float32', data, shape: [...shape, headDim] } };
  const halves = new Uint16Array(buffer, byteOffset, byteLength / 2);
  if (kv.bits === 16) return { [name]: { type: 'float16', data: halves, shape: [...shape, 2 * kvRowUnits(config)] } };
  const codes = new Uint8Array(buffer, byteOffset, byteLength);
  return {
    [name]: { type: 'uint8', data: codes, shape: [slots, byteLength / slots] },
    [`${name}Factors`]: { type: 'float16', data: halves, shape: [slots, byteLength / 2 / slots] },
  };
}
