/**
 * The graphs of attention: among rows, and over the cache.
 *
 * `rows`, `keys` and `slots` are sizes known at run time only.
 */
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import { KV_BLOCK_TOKENS, MASKED } from './backend.js';
import { GraphBuilder } from './onnx-graph.js';
import { type KvInput, kvInput, scaledProduct } from './onnx-kv.js';
import { softcapped } from './onnx-layers.js';
import { isSparse, keepLargestNode } from './sparse-attention.js';

/** Rows of one sequence attend to rows of the same sequence. */
export function attendRowsGraph(config: ModelConfig): Uint8Array {
  const { numHeads, numKvHeads, headDim } = config;
  const [queryKeyWidth, valueWidth] = [queryKeySize(config), valueSize(config)];
  const graph = new GraphBuilder('attendRows');
  const queries = graph.input('queries', 'float32', ['rows', queryKeyWidth]);
  const keys = graph.input('keys', 'float32', ['keys', queryKeyWidth]);
  const values = graph.input('values', 'float32', ['keys', valueWidth]);
  const mask = graph.input('mask', 'float32', ['rows', 'keys']);
  const headsFirst = (value: string, ...shape: number[]) =>
    graph.node('Transpose', [graph.reshape(value, ...shape)], { perm: [1, 0, 2] });
  const [query] = graph.split(queries, 1, numHeads * headDim, numKvHeads * headDim) as [string];
  const key = graph.split(keys, 1, numHeads * headDim, numKvHeads * headDim)[1]!;
  // Query heads of one key head lie side by side, so they join into one product of (group * rows) rows.
  const q = graph.reshape(headsFirst(query, -1, numHeads, headDim), numKvHeads, -1, headDim);
  const k = headsFirst(key, -1, numKvHeads, headDim);
  const v = headsFirst(values, -1, numKvHeads, headDim);
  const scores = scaledScores(graph, config, q, k);
  const scoresShape = graph.node('Concat', [graph.ints(numHeads), graph.node('Shape', [mask])], { axis: 0 });
  const masked = graph.node('Add', [graph.node('Reshape', [scores, scoresShape]), mask]);
  const weights = graph.node('Softmax', [masked], { axis: -1 });
  const keysCount = graph.node('Shape', [values], { start: 0, end: 1 });
  const joined = graph.node('Concat', [graph.ints(numKvHeads, -1), keysCount], { axis: 0 });
  const mixed = graph.node('MatMul', [graph.node('Reshape', [weights, joined]), v]);
  const rowsCount = graph.node('Shape', [mask], { start: 0, end: 1 });
  const perHead = graph.node('Concat', [graph.ints(numHeads), rowsCount, graph.ints(headDim)], { axis: 0 });
  const rowsFirst = graph.node('Transpose', [graph.node('Reshape', [mixed, perHead])], { perm: [1, 0, 2] });
  graph.output('attended', graph.reshape(rowsFirst, -1, numHeads * headDim), 'float32', ['rows', numHeads * headDim]);
  return graph.build();
}

/**
 * Whether blocks that slots have in common can be attended to by all of them in one product. Its rows round as those of a
 * slot's own product do, unless that one has a single row; and bare codes are multiplied slot by slot.
 */
export function sharesBlocks({ numHeads, numKvHeads, kv }: ModelConfig): boolean {
  return numHeads >= 2 * numKvHeads && (kv?.bits ?? 32) >= 16;
}

/**
 * One row a slot attends to the slot's cached blocks, fed one by one so that a cache grows without a copy.
 *
 * @param common the first so many blocks are fed once, for all slots
 */
export function attendCacheGraph(config: ModelConfig, numBlocks: number, common = 0): Uint8Array {
  const { numHeads, numKvHeads, headDim } = config;
  const heads = numHeads / numKvHeads;
  const graph = new GraphBuilder('attendCache');
  const queries = graph.input('queries', 'float32', ['slots', queryKeySize(config)]);
  const mask = graph.input('mask', 'float32', ['slots', 1, 1, numBlocks * KV_BLOCK_TOKENS]);
  const [query] = graph.split(queries, 1, numHeads * headDim, numKvHeads * headDim) as [string];
  const q = graph.reshape(query, -1, numKvHeads, heads, headDim);
  const blocks = Array.from({ length: numBlocks }, (_, i) => ({
    key: kvInput(graph, config, `key${i}`, i < common ? 1 : 'slots'),
    value: kvInput(graph, config, `value${i}`, i < common ? 1 : 'slots'),
  }));
  const [shared, own] = [blocks.slice(0, common), blocks.slice(common)];
  const join = (parts: readonly string[]) => (parts.length > 1 ? graph.node('Concat', parts, { axis: 3 }) : parts[0]!);
  const turned = (value: string) => graph.node('Transpose', [value], { perm: [1, 0, 2, 3] });
  /** (slots, numKvHeads, heads, width) as rows of all slots, (1, numKvHeads, slots * heads, width), and back. */
  const together = (value: string, width: number) => graph.reshape(turned(value), 1, numKvHeads, -1, width);
  const apart = (value: string, width: number) => turned(graph.reshape(value, numKvHeads, -1, heads, width));
  // Block by block: how a cap rounds may depend on where an array is divided among threads.
  const scoresOf = (key: KvInput, rows: string) => softcapped(graph, key.scores(rows), config.attention?.softcap);
  const scores = own.map(({ key }) => scoresOf(key, q));
  if (common > 0) {
    const rows = together(q, headDim);
    scores.unshift(apart(join(shared.map(({ key }) => scoresOf(key, rows))), common * KV_BLOCK_TOKENS));
  }
  const masked = graph.node('Add', [join(scores), mask]);
  const lastKept = () => graph.input('lastKept', 'int64', ['slots', numKvHeads, heads, 1]);
  const kept = isSparse(config) ? keepLargestNode(graph, masked, lastKept(), MASKED) : masked;
  const weights = graph.node('Softmax', [kept], { axis: -1 });
  const split = (value: string, count: number) =>
    count > 1 ? graph.split(value, 3, ...Array<number>(count).fill(KV_BLOCK_TOKENS)) : [value];
  const sumUp = (terms: readonly string[]) => terms.reduce((a, b) => graph.node('Add', [a, b]));
  const mixed: string[] = [];
  let ownWeights = weights;
  if (common > 0) {
    const sizes = [common, own.length].filter((count) => count > 0).map((count) => count * KV_BLOCK_TOKENS);
    const [first, rest] = sizes.length > 1 ? graph.split(weights, 3, ...sizes) : [weights];
    const rows = split(together(first!, common * KV_BLOCK_TOKENS), common);
    mixed.push(apart(sumUp(rows.map((part, i) => shared[i]!.value.mix(part))), headDim));
    ownWeights = rest ?? '';
  }
  if (own.length > 0) mixed.push(...split(ownWeights, own.length).map((part, i) => own[i]!.value.mix(part)));
  graph.output('attended', graph.reshape(sumUp(mixed), -1, numHeads * headDim), 'float32', [
    'slots',
    numHeads * headDim,
  ]);
  return graph.build();
}

function scaledScores(graph: GraphBuilder, config: ModelConfig, query: string, key: string): string {
  return softcapped(graph, scaledProduct(graph, config, query, key), config.attention?.softcap);
}
