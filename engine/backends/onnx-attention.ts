/**
 * The graphs of attention: among rows, and over the cache.
 *
 * `rows`, `keys` and `slots` are sizes known at run time only.
 */
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import { KV_BLOCK_TOKENS, MASKED } from './backend.js';
import { GraphBuilder } from './onnx-graph.js';
import { kvInput, scaledProduct } from './onnx-kv.js';
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

/** One row a slot attends to the slot's cached blocks, fed one by one so that a cache grows without a copy. */
export function attendCacheGraph(config: ModelConfig, numBlocks: number): Uint8Array {
  const { numHeads, numKvHeads, headDim } = config;
  const graph = new GraphBuilder('attendCache');
  const queries = graph.input('queries', 'float32', ['slots', queryKeySize(config)]);
  const mask = graph.input('mask', 'float32', ['slots', 1, 1, numBlocks * KV_BLOCK_TOKENS]);
  const [query] = graph.split(queries, 1, numHeads * headDim, numKvHeads * headDim) as [string];
  const q = graph.reshape(query, -1, numKvHeads, numHeads / numKvHeads, headDim);
  const block = (name: string) => kvInput(graph, config, name);
  const lastKept = () => graph.input('lastKept', 'int64', ['slots', numKvHeads, numHeads / numKvHeads, 1]);
  const indexes = Array.from({ length: numBlocks }, (_, i) => i);
  const scores = indexes.map((i) => softcapped(graph, block(`key${i}`).scores(q), config.attention?.softcap));
  const all = numBlocks > 1 ? graph.node('Concat', scores, { axis: 3 }) : scores[0]!;
  const masked = graph.node('Add', [all, mask]);
  const kept = isSparse(config) ? keepLargestNode(graph, masked, lastKept(), MASKED) : masked;
  const weights = graph.node('Softmax', [kept], { axis: -1 });
  const parts = numBlocks > 1 ? graph.split(weights, 3, ...indexes.map(() => KV_BLOCK_TOKENS)) : [weights];
  const mixed = parts.map((part, i) => block(`value${i}`).mix(part));
  const sum = mixed.reduce((a, b) => graph.node('Add', [a, b]));
  graph.output('attended', graph.reshape(sum, -1, numHeads * headDim), 'float32', ['slots', numHeads * headDim]);
  return graph.build();
}

function scaledScores(graph: GraphBuilder, config: ModelConfig, query: string, key: string): string {
  return softcapped(graph, scaledProduct(graph, config, query, key), config.attention?.softcap);
}
