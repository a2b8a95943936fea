/**
 * The CPU backend: ONNX Runtime as a library of kernels, one small graph for each step of a layer.
 *
 * Weights are fed, not built in, so one session serves all layers: feeds are not copied, and Gemm reads them as (out, in)
 * at nearly the speed of packed ones from 64 rows up. Every fetched output is copied, so only small things are
 * fetched. The KV cache is ours, fed block by block. `run` blocks its thread: see host.ts.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { EngineError } from '../errors.js';
import type { PackedMatrix } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, type TensorName, valueSize } from '../model/layers.js';
import { numericsOf } from '../numerics.js';
import type { Backend, HeadRequest, HeadResult, KvBlock, LayerWeights } from './backend.js';
import { KV_BLOCK_TOKENS } from './backend.js';
import * as graphs from './onnx-layers.js';
import { type PackedFeed, type PackedForm, packedFeeds, packedForm } from './onnx-packed.js';
import { type RotaryTables, rotaryByLayer } from './rotary.js';
import { computedRows, putTile, type RowTile, rowTiles, takeTile } from './row-tiles.js';

/** Rows of one dense call. */
const ROW_TILE = 512;
/** Rows of one call of the head, whose logits are as wide as the vocabulary. */
const HEAD_TILE = 64;

/** What each half of a layer reads; which norms, depends on where the family puts them. */
const HEAD_NORMS: readonly TensorName[] = ['queryNorm', 'keyNorm'];
const PROJECT_TENSORS: readonly TensorName[] = ['qkv', 'qkvBias', ...HEAD_NORMS];
const FEED_TENSORS: readonly TensorName[] = ['gate', 'gateBias', 'up', 'upBias', 'down', 'downBias'];
const OUT_NORMS: readonly TensorName[] = ['attentionOutNorm', 'attentionOutNormBias', 'ffnOutNorm', 'ffnOutNormBias'];
const FINISH_TENSORS: readonly TensorName[] = ['output', 'outputBias', ...FEED_TENSORS, ...OUT_NORMS];
const ATTENTION_NORM: readonly TensorName[] = ['attentionNorm', 'attentionNormBias'];
const FFN_NORM: readonly TensorName[] = ['ffnNorm', 'ffnNormBias'];

type Feeds = Record<string, Tensor>;

export async function openOnnx(config: ModelConfig, options: { readonly threads: number }): Promise<Backend> {
  const sessions = new Sessions(options.threads);
  const { hiddenSize, numHeads, headDim } = config;
  const [queryKeyWidth, valueWidth] = [queryKeySize(config), valueSize(config)];
  const attendedWidth = numHeads * headDim;
  const preNorm = config.norm.placement !== 'post';
  const projectTensors = [...PROJECT_TENSORS, ...(preNorm ? ATTENTION_NORM : [])];
  const finishTensors = [...FINISH_TENSORS, ...FFN_NORM, ...(preNorm ? [] : ATTENTION_NORM)];
  const rotary = rotaryByLayer(config);
  /** The rotation takes rows for one sequence, which is no longer than its tables. */
  const positionTile = Math.min(ROW_TILE, config.maxPositions);

  interface Turn {
    readonly layer: number;
    readonly positions: Int32Array;
  }

  /** Queries, keys and values by a graph that ends in them. */
  async function projection(
    name: string,
    build: () => Uint8Array,
    feeds: Feeds,
    rows: Rows,
    { layer, positions }: Turn,
  ) {
    const tables = rotary(layer);
    /** Of the tile's rows, where the model rotates. */
    const positionFeeds = (tile: RowTile): Feeds =>
      tables ? { ...tableFeeds(tables), positions: longs(takeTile(positions, 1, tile), [1, computedRows(tile)]) } : {};
    const queryKey = new Float32Array(positions.length * queryKeyWidth);
    const value = new Float32Array(positions.length * valueWidth);
    const session = await sessions.get(name, build);
    for (const tile of rowTiles(positions.length, positionTile)) {
      const outputs = await session.run({ ...feeds, ...rowFeeds(rows, tile), ...positionFeeds(tile) });
      putTile(queryKey, floats(outputs.queryKey!), queryKeyWidth, tile);
      putTile(value, floats(outputs.value!), valueWidth, tile);
    }
    return { queryKey, value };
  }

  /** One output, row tile by row tile. */
  async function rowwise(name: string, build: () => Uint8Array, feeds: Feeds, rows: Rows, width: number) {
    const [first] = Object.values(rows);
    const count = first!.data.length / first!.width;
    const result = new Float32Array(count * width);
    const session = await sessions.get(name, build);
    for (const tile of rowTiles(count, ROW_TILE)) {
      const outputs = await session.run({ ...feeds, ...rowFeeds(rows, tile) });
      putTile(result, floats(Object.values(outputs)[0]!), width, tile);
    }
    return result;
  }

  return {
    name: 'onnx',
    numerics: numericsOf.onnx,

    project(layer, weights, hidden, positions) {
      const { forms, feeds } = layerFeeds(weights, projectTensors);
      const rows = { hidden: { data: hidden, width: hiddenSize } };
      const build = () => graphs.projectGraph(config, forms);
      return projection(`project ${JSON.stringify(forms)}`, build, feeds, rows, { layer, positions });
    },

    rotate(layer, norms, joined, positions) {
      const { feeds } = layerFeeds(norms, HEAD_NORMS);
      const rows = { joined: { data: joined, width: queryKeyWidth + valueWidth } };
      return projection('rotate', () => graphs.rotateGraph(config), feeds, rows, { layer, positions });
    },

    finish(weights, hidden, attended) {
      const { forms, feeds } = layerFeeds(weights, finishTensors);
      const rows = {
        hidden: { data: hidden, width: hiddenSize },
        attended: { data: attended, width: attendedWidth },
      };
      const build = () => graphs.finishGraph(config, forms);
      return rowwise(`finish ${JSON.stringify(forms)}`, build, feeds, rows, hiddenSize);
    },

    norm(hidden, weight, bias) {
      const feeds = { norm: vector(weight), ...(bias && { normBias: vector(bias) }) };
      const rows = { hidden: { data: hidden, width: hiddenSize } };
      return rowwise('norm', () => graphs.normGraph(config), feeds, rows, hiddenSize);
    },

    multiply(input, part, bias) {
      const form = packedForm(part);
      const [out, width] = part.shape as [number, number];
      const feeds = { ...matrixFeeds('up', part), ...(bias && { upBias: vector(bias) }) };
      const build = () => graphs.multiplyGraph(form, bias !== undefined);
      return rowwise(`multiply ${form} ${bias !== undefined}`, build, feeds, { input: { data: input, width } }, out);
    },

    feed(input, { gate, gateBias, up, upBias }) {
      const form = packedForm(up);
      const feeds = {
        ...matrixFeeds('up', up),
        ...(gate && matrixFeeds('gate', gate)),
        ...(upBias && { upBias: vector(upBias) }),
        ...(gateBias && { gateBias: vector(gateBias) }),
      };
      const rows = { input: { data: input, width: hiddenSize } };
      return rowwise(`feed ${form}`, () => graphs.feedGraph(config, form), feeds, rows, up.shape[0]!);
    },

    async head(part, request) {
      const variant = { targets: request.targets !== undefined, all: request.all === true };
      const [vocabSize, width] = part.shape as [number, number];
      const form = packedForm(part);
      const build = () => graphs.headGraph(config, width, form, variant);
      const session = await sessions.get(`head ${width} ${form} ${JSON.stringify(variant)}`, build);
      const feeds = { ...matrixFeeds('tokens', part), top: longs([request.top], [1]) };
      const rows = request.input.length / width;
      const result = emptyHead(rows, request, vocabSize);
      for (const tile of rowTiles(rows, HEAD_TILE)) {
        const outputs = await session.run({
          ...feeds,
          ...rowFeeds({ input: { data: request.input, width } }, tile),
          ...targetFeeds(request, tile),
        });
        putTile(result.logSumExp, floats(outputs.logSumExp!), 1, tile);
        putTile(result.topLogits, floats(outputs.topLogits!), request.top, tile);
        putTile(result.topIds, outputs.topIds!.data as Int32Array, request.top, tile);
        if (result.targetLogits) {
          putTile(result.targetLogits, floats(outputs.targetLogits!), request.targets!.perRow, tile);
        }
        if (result.logits) putTile(result.logits, floats(outputs.logits!), vocabSize, tile);
      }
      return result;
    },

    async attendRows(queries, keys, values, mask) {
      const session = await sessions.get('attendRows', () => graphs.attendRowsGraph(config));
      const [rows, count] = [queries.length / queryKeyWidth, keys.length / queryKeyWidth];
      const outputs = await session.run({
        queries: float(queries, [rows, queryKeyWidth]),
        keys: float(keys, [count, queryKeyWidth]),
        values: float(values, [count, valueWidth]),
        mask: float(mask, [rows, count]),
      });
      return floats(outputs.attended!);
    },

    async attendCache(queries, blocks, slots, mask) {
      const build = () => graphs.attendCacheGraph(config, blocks.length);
      const session = await sessions.get(`attendCache ${blocks.length}`, build);
      const outputs = await session.run({
        queries: float(queries, [slots, queryKeyWidth]),
        mask: float(mask, [slots, 1, 1, blocks.length * KV_BLOCK_TOKENS]),
        ...blockFeeds(config, blocks, slots),
      });
      return floats(outputs.attended!);
    },

    close: () => sessions.close(),
  };
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
        // Every session has threads of its own; spinning after a run, they take the cores from the next session's.
        extra: { session: { intra_op: { allow_spinning: '0' } } },
        logSeverityLevel: 3,
      }).catch((cause) => {
        throw new EngineError('BACKEND', `onnxruntime refused the graph ${name}: ${cause}`, { name }, { cause });
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

/** Arrays of which a call takes a tile, by input name. */
type Rows = Readonly<Record<string, { readonly data: Float32Array; readonly width: number }>>;

function rowFeeds(rows: Rows, tile: RowTile): Feeds {
  const entries = Object.entries(rows).map(([name, { data, width }]) => [
    name,
    float(takeTile(data, width, tile), [computedRows(tile), width]),
  ]);
  return Object.fromEntries(entries);
}

function tableFeeds({ cos, sin, rotaryDim }: RotaryTables): Feeds {
  const shape = [cos.length / (rotaryDim / 2), rotaryDim / 2];
  return { cos: float(cos, shape), sin: float(sin, shape) };
}

function targetFeeds({ targets }: HeadRequest, tile: RowTile): Feeds {
  if (!targets) return {};
  return { targets: longs(takeTile(targets.ids, targets.perRow, tile), [computedRows(tile), targets.perRow]) };
}

/** Those of the named tensors that the layer has, and how its matrices are stored. */
function layerFeeds(weights: LayerWeights, names: readonly TensorName[]) {
  const forms: Partial<Record<TensorName, PackedForm>> = {};
  const feeds: Feeds = {};
  for (const name of names) {
    const matrix = weights[name];
    if (!matrix) continue;
    forms[name] = packedForm(matrix);
    Object.assign(feeds, matrixFeeds(name, matrix));
  }
  return { forms, feeds };
}

function matrixFeeds(name: string, matrix: PackedMatrix): Feeds {
  const entries = Object.entries(packedFeeds(name, matrix));
  return Object.fromEntries(entries.map(([key, feed]) => [key, tensorOf(feed)]));
}

/**
 * Where JavaScript has a Float16Array, as from Node 24 on, a float16 tensor keeps one instead of the bits that it is given,
 * and ONNX Runtime's native part, which does not know that kind, sees no bytes in it: so it is handed the bits.
 */
function tensorOf({ type, data, shape }: PackedFeed): Tensor {
  const tensor = new Tensor(type, data, shape);
  if (tensor.data !== data) Object.defineProperty(tensor, 'data', { value: data });
  return tensor;
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

function emptyHead(rows: number, request: HeadRequest, vocabSize: number): HeadResult {
  return {
    logSumExp: new Float32Array(rows),
    topIds: new Int32Array(rows * request.top),
    topLogits: new Float32Array(rows * request.top),
    ...(request.targets && { targetLogits: new Float32Array(request.targets.ids.length) }),
    ...(request.all && { logits: new Float32Array(rows * vocabSize) }),
  };
}

function floats(tensor: Tensor): Float32Array {
  return tensor.data as Float32Array;
}

function float(data: Float32Array, shape: readonly number[]): Tensor {
  return new Tensor('float32', data, shape);
}

function vector(data: Float32Array): Tensor {
  return float(data, [data.length]);
}

function longs(values: ArrayLike<number>, shape: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), shape);
}
