/**
 * The CPU backend: ONNX Runtime as a library of kernels, one small graph for each step of a layer.
 *
 * Weights are fed, not built in, so one session serves all layers: feeds are not copied, Gemm reads them as (out, in)
 * at nearly the speed of packed ones from 64 rows up. Every fetched output is copied, so only small things are
 * fetched. The KV cache is ours, fed block by block. `run` blocks its thread: see host.ts.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { EngineError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import type { TensorName } from '../model/layers.js';
import { layerTensors, queryKeySize, valueSize } from '../model/layers.js';
import { numericsOf } from '../numerics.js';
import type { Backend, HeadRequest, HeadResult, KvBlock, LayerWeights } from './backend.js';
import { KV_BLOCK_TOKENS } from './backend.js';
import { attendCacheGraph, attendRowsGraph, finishGraph, headGraph, projectGraph, reduceGraph } from './onnx-layers.js';
import { rotaryTables } from './rotary.js';

/** Rows of one dense call: large enough for the products' full speed, small enough for the caches. */
const ROW_TILE = 512;
/** Rows of one call of the head, whose output is as wide as the vocabulary. */
const HEAD_TILE = 64;
/** Products of one row take another path through the kernels, with other rounding: never compute a lone row. */
const MIN_ROWS = 2;

type Feeds = Record<string, Tensor>;

export async function openOnnx(config: ModelConfig, options: { readonly threads: number }): Promise<Backend> {
  const sessions = new Sessions(options.threads);
  const shapes = weightShapes(config);
  const rotary = rotaryTables(config);
  const tables = rotary && {
    cos: float(rotary.cos, [config.maxPositions, rotary.rotaryDim / 2]),
    sin: float(rotary.sin, [config.maxPositions, rotary.rotaryDim / 2]),
  };
  const { hiddenSize, embeddingSize, numHeads, headDim, vocabSize } = config;
  const [queryKeyWidth, valueWidth] = [queryKeySize(config), valueSize(config)];
  const attendedWidth = numHeads * headDim;

  /** Feeds of the named tensors, where the layer has them. */
  const feedWeights = (kind: keyof typeof shapes, weights: LayerWeights, ...names: TensorName[]): Feeds =>
    Object.fromEntries(
      names.flatMap((name) => {
        const data = weights[name];
        return data ? [[name, float(data, shapes[kind].get(name)!)]] : [];
      }),
    );

  return {
    name: 'onnx',
    numerics: numericsOf.onnx,

    async embed(weights, tokens, positions) {
      const gathered = gatherRows(weights.tokens!, embeddingSize, tokens);
      const hidden = weights.project ? await reduce(gathered, weights.project) : gathered;
      if (config.positions.kind === 'learned') addRows(hidden, weights.positions!, positions, config.positions.offset);
      return hidden;
    },

    async project(weights, hidden, positions) {
      const session = await sessions.get('project', () => projectGraph(config));
      const fed = feedWeights('decoder', weights, 'attentionNorm', 'attentionNormBias', 'qkv', 'qkvBias');
      if (config.norm.placement === 'post') {
        delete fed.attentionNorm;
        delete fed.attentionNormBias;
      }
      const queryKey = new Float32Array(positions.length * queryKeyWidth);
      const value = new Float32Array(positions.length * valueWidth);
      for (const tile of tiles(positions.length, ROW_TILE)) {
        const feeds: Feeds = { ...fed, ...tables, hidden: tileOf(hidden, hiddenSize, tile) };
        if (tables) feeds.positions = positionsTile(positions, tile);
        const outputs = await session.run(feeds);
        writeTile(queryKey, outputs.queryKey!, queryKeyWidth, tile);
        writeTile(value, outputs.value!, valueWidth, tile);
      }
      return { queryKey, value };
    },

    async attendRows(queries, keys, values, mask) {
      const session = await sessions.get('attendRows', () => attendRowsGraph(config));
      const [rows, count] = [queries.length / queryKeyWidth, keys.length / queryKeyWidth];
      const outputs = await session.run({
        queries: float(queries, [rows, queryKeyWidth]),
        keys: float(keys, [count, queryKeyWidth]),
        values: float(values, [count, valueWidth]),
        mask: float(mask, [rows, count]),
      });
      return outputs.attended!.data as Float32Array;
    },

    async attendCache(queries, blocks, slots, mask) {
      const session = await sessions.get(`attendCache${blocks.length}`, () => attendCacheGraph(config, blocks.length));
      const outputs = await session.run({
        queries: float(queries, [slots, queryKeyWidth]),
        mask: float(mask, [slots, 1, 1, blocks.length * KV_BLOCK_TOKENS]),
        ...blockFeeds(config, blocks, slots),
      });
      return outputs.attended!.data as Float32Array;
    },

    async finish(weights, hidden, attended) {
      const session = await sessions.get('finish', () => finishGraph(config));
      const names = layerTensors(config, 1).map(({ name }) => name);
      const fed = feedWeights('decoder', weights, ...names.filter((name) => name !== 'qkv' && name !== 'qkvBias'));
      if (config.norm.placement === 'pre') {
        delete fed.attentionNorm;
        delete fed.attentionNormBias;
      }
      const rows = hidden.length / hiddenSize;
      const result = new Float32Array(hidden.length);
      for (const tile of tiles(rows, ROW_TILE)) {
        const outputs = await session.run({
          ...fed,
          hidden: tileOf(hidden, hiddenSize, tile),
          attended: tileOf(attended, attendedWidth, tile),
        });
        writeTile(result, outputs.result!, hiddenSize, tile);
      }
      return result;
    },

    async head(weights, request) {
      const variant = { targets: request.targets !== undefined, all: request.all === true };
      const session = await sessions.get(`head ${JSON.stringify(variant)}`, () => headGraph(config, variant));
      const fed = feedWeights('head', weights, 'norm', 'normBias', 'project', 'tokens');
      const rows = request.hidden.length / hiddenSize;
      const result = emptyHead(rows, request, vocabSize);
      for (const tile of tiles(rows, HEAD_TILE)) {
        const feeds: Feeds = { ...fed, hidden: tileOf(request.hidden, hiddenSize, tile), top: longs([request.top]) };
        if (request.targets) feeds.targets = targetsTile(request.targets, tile);
        const outputs = await session.run(feeds);
        writeTile(result.logSumExp, outputs.logSumExp!, 1, tile);
        writeTile(result.topLogits, outputs.topLogits!, request.top, tile);
        writeTile(result.topIds, outputs.topIds!, request.top, tile);
        if (result.targetLogits) writeTile(result.targetLogits, outputs.targetLogits!, request.targets!.perRow, tile);
        if (result.logits) writeTile(result.logits, outputs.logits!, vocabSize, tile);
      }
      return result;
    },

    close: () => sessions.close(),
  };

  /** The embedding's own product, into the hidden size. */
  async function reduce(gathered: Float32Array, weight: Float32Array): Promise<Float32Array> {
    const session = await sessions.get('reduce', () => reduceGraph(config));
    const rows = gathered.length / embeddingSize;
    const result = new Float32Array(rows * hiddenSize);
    for (const tile of tiles(rows, ROW_TILE)) {
      const outputs = await session.run({
        gathered: tileOf(gathered, embeddingSize, tile),
        project: float(weight, [hiddenSize, embeddingSize]),
      });
      writeTile(result, outputs.hidden!, hiddenSize, tile);
    }
    return result;
  }
}

/** Sessions by name, made when first needed: making one takes a millisecond or two. */
class Sessions {
  private readonly open = new Map<string, Promise<InferenceSession>>();

  constructor(private readonly threads: number) {}

  get(name: string, build: () => Uint8Array): Promise<InferenceSession> {
    let session = this.open.get(name);
    if (!session) {
      session = InferenceSession.create(build(), {
        intraOpNumThreads: this.threads,
        interOpNumThreads: 1,
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        enableMemPattern: false,
        logSeverityLevel: 3,
      }).catch((cause) => {
        throw new EngineError(
          'BACKEND',
          `onnxruntime refused the graph ${name}: ${String(cause)}`,
          { name },
          { cause },
        );
      });
      this.open.set(name, session);
    }
    return session;
  }

  async close(): Promise<void> {
    for (const session of this.open.values()) await (await session).release();
    this.open.clear();
  }
}

/** Rows [start, end) of the whole, computed as [from, end): a lone row takes its predecessor, or itself, along. */
interface Tile {
  readonly start: number;
  readonly end: number;
}

function* tiles(rows: number, size: number): Generator<Tile> {
  for (let start = 0; start < rows; start += size) yield { start, end: Math.min(rows, start + size) };
}

function tileOf(data: Float32Array, width: number, { start, end }: Tile): Tensor {
  return float(atLeastMinRows(data, width, start, end), [Math.max(MIN_ROWS, end - start), width]);
}

function atLeastMinRows<T extends Float32Array | Int32Array>(data: T, width: number, start: number, end: number): T {
  const rows = data.subarray(start * width, end * width) as T;
  if (end - start >= MIN_ROWS) return rows;
  const padded = new (data.constructor as new (size: number) => T)(MIN_ROWS * width);
  for (let row = 0; row < MIN_ROWS; row++) padded.set(rows, row * width);
  return padded;
}

function positionsTile(positions: Int32Array, { start, end }: Tile): Tensor {
  const rows = atLeastMinRows(positions, 1, start, end);
  return new Tensor('int64', BigInt64Array.from(rows, BigInt), [1, rows.length]);
}

function targetsTile({ ids, perRow }: { ids: Int32Array; perRow: number }, { start, end }: Tile): Tensor {
  const rows = atLeastMinRows(ids, perRow, start, end);
  return new Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length / perRow, perRow]);
}

/** Copies a call's output to its rows of the whole, leaving the padding out. */
function writeTile(into: Float32Array | Int32Array, output: Tensor, width: number, { start, end }: Tile): void {
  const values = (output.data as Float32Array | Int32Array).subarray(0, (end - start) * width);
  into.set(values, start * width);
}

function emptyHead(rows: number, request: HeadRequest, vocabSize: number): HeadResult {
  return {
    logSumExp: new Float32Array(rows),
    topIds: new Int32Array(rows * request.top),
    topLogits: new Float32Array(rows * request.top),
    ...(request.targets && { targetLogits: new Float32Array(request.targets.ids.length) }),
    ...(request.all && { logits: new Float32Array(rows * vocabSize) }),
  };
}

/** The first `slots` slots of each block: slots are outermost, so a prefix is contiguous. */
function blockFeeds(config: ModelConfig, blocks: readonly KvBlock[], slots: number): Feeds {
  const shape = [slots, config.numKvHeads, KV_BLOCK_TOKENS, config.headDim];
  const size = shape.reduce((a, b) => a * b);
  const feeds: Feeds = {};
  blocks.forEach(({ key, value }, i) => {
    feeds[`key${i}`] = float(key.subarray(0, size), shape);
    feeds[`value${i}`] = float(value.subarray(0, size), shape);
  });
  return feeds;
}

function gatherRows(table: Float32Array, width: number, ids: Int32Array): Float32Array {
  const rows = new Float32Array(ids.length * width);
  ids.forEach((id, row) => {
    rows.set(table.subarray(id * width, (id + 1) * width), row * width);
  });
  return rows;
}

function addRows(rows: Float32Array, table: Float32Array, ids: Int32Array, offset: number): void {
  const width = rows.length / ids.length;
  ids.forEach((id, row) => {
    const source = (id + offset) * width;
    for (let i = 0; i < width; i++) rows[row * width + i]! += table[source + i]!;
  });
}

function weightShapes(config: ModelConfig): Record<'decoder' | 'head', ReadonlyMap<TensorName, readonly number[]>> {
  const shapesOf = (layer: number) => new Map(layerTensors(config, layer).map(({ name, shape }) => [name, shape]));
  return { decoder: shapesOf(1), head: shapesOf(config.numLayers + 1) };
}

function float(data: Float32Array, shape: readonly number[]): Tensor {
  return new Tensor('float32', data, shape);
}

function longs(values: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);
}
