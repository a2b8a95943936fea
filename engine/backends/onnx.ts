/**
 * The CPU backend: ONNX Runtime as a library of kernels, one small graph for each step of a layer.
 *
 * Weights that stream are fed, so one session serves all layers: feeds are not copied, and Gemm reads them as (out, in)
 * at nearly the speed of packed ones from 64 rows up. Those that stay are built in. The KV cache is ours, fed block by
 * block.
 */
import { Scratch } from '../memory/scratch.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import { numericsOf } from '../numerics.js';
import type { Backend, BackendOptions, HeadRequest, HeadResult, KvBlock } from './backend.js';
import { KV_BLOCK_TOKENS } from './backend.js';
import { attendCacheGraph, attendRowsGraph, sharesBlocks } from './onnx-attention.js';
import { requireExactBytes } from './onnx-exact.js';
import { HEAD_NORMS, keepLayer } from './onnx-kept.js';
import { kvFeeds } from './onnx-kv.js';
import * as graphs from './onnx-layers.js';
import { packedForm } from './onnx-packed.js';
import {
  type Feeds,
  float,
  floats,
  layerFeeds,
  longs,
  matrixFeeds,
  rowFeeds,
  Sessions,
  tensorsOf,
  vector,
} from './onnx-session.js';
import { openSteps } from './onnx-steps.js';
import { computedRows, putTile, type RowTile, rowTiles, takeTile } from './row-tiles.js';
import { isSparse, keptPositions } from './sparse-attention.js';

/** Rows of one call of the head, whose logits are as wide as the vocabulary. */
const HEAD_TILE = 64;

export async function openOnnx(config: ModelConfig, { threads, computeBits = 32 }: BackendOptions): Promise<Backend> {
  const sessions = new Sessions(threads);
  const [steps, reusedSteps] = [openSteps(config), openSteps(config, new Scratch())];
  const { hiddenSize } = config;
  const [queryKeyWidth, valueWidth] = [queryKeySize(config), valueSize(config)];
  if (computeBits === 8) await requireExactBytes(sessions);
  return {
    name: 'onnx',
    sharesBlocks: sharesBlocks(config),
    numerics: numericsOf('onnx', { computeBits, ...config.kv }),

    keep: (layer, weights) => keepLayer(config, layer, weights, { sessions, steps: reusedSteps, computeBits }),

    async rotate(layer, norms, joined, positions) {
      const { feeds } = layerFeeds(norms, HEAD_NORMS);
      const rows = { joined: { data: joined, width: queryKeyWidth + valueWidth } };
      const session = await sessions.get('rotate', () => graphs.rotateGraph(config));
      return reusedSteps.projection(session, feeds, rows, { layer, positions });
    },

    async norm(hidden, weight, bias) {
      const feeds = { norm: vector(weight), ...(bias && { normBias: vector(bias) }) };
      const rows = { hidden: { data: hidden, width: hiddenSize } };
      const session = await sessions.get('norm', () => graphs.normGraph(config));
      return steps.rowwise(session, feeds, rows, hiddenSize);
    },

    async multiply(input, part, bias, into) {
      const form = packedForm(part);
      const [out, width] = part.shape as [number, number];
      const feeds = { ...matrixFeeds('up', part), ...(bias && { upBias: vector(bias) }) };
      const build = () => graphs.multiplyGraph(form, bias !== undefined);
      const session = await sessions.get(`multiply ${form} ${bias !== undefined}`, build);
      return steps.rowwise(session, feeds, { input: { data: input, width } }, out, into);
    },

    async feed(input, { gate, gateBias, up, upBias }, into) {
      const form = packedForm(up);
      const feeds = {
        ...matrixFeeds('up', up),
        ...(gate && matrixFeeds('gate', gate)),
        ...(upBias && { upBias: vector(upBias) }),
        ...(gateBias && { gateBias: vector(gateBias) }),
      };
      const rows = { input: { data: input, width: hiddenSize } };
      const session = await sessions.get(`feed ${form}`, () => graphs.feedGraph(config, form));
      return steps.rowwise(session, feeds, rows, up.shape[0]!, into);
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
      const session = await sessions.get('attendRows', () => attendRowsGraph(config));
      const [rows, count] = [queries.length / queryKeyWidth, keys.length / queryKeyWidth];
      const outputs = await session.run({
        queries: float(queries, [rows, queryKeyWidth]),
        keys: float(keys, [count, queryKeyWidth]),
        values: float(values, [count, valueWidth]),
        mask: float(mask, [rows, count]),
      });
      return floats(outputs.attended!);
    },

    async attendCache(queries, blocks, slots, mask, common = 0) {
      const build = () => attendCacheGraph(config, blocks.length, common);
      const session = await sessions.get(`attendCache ${blocks.length} ${common}`, build);
      const outputs = await session.run({
        queries: float(queries, [slots, queryKeyWidth]),
        mask: float(mask, [slots, 1, 1, blocks.length * KV_BLOCK_TOKENS]),
        ...blockFeeds(config, blocks.slice(0, common), 1, 0),
        ...blockFeeds(config, blocks.slice(common), slots, common),
        ...(isSparse(config) && { lastKept: lastKept(config, mask, slots) }),
      });
      return floats(outputs.attended!);
    },

    close: () => sessions.close(),
  };
}

function targetFeeds({ targets }: HeadRequest, tile: RowTile): Feeds {
  if (!targets) return {};
  return { targets: longs(takeTile(targets.ids, targets.perRow, tile), [computedRows(tile), targets.perRow]) };
}

function blockFeeds(config: ModelConfig, blocks: readonly KvBlock[], slots: number, first: number): Feeds {
  const feeds: Feeds = {};
  blocks.forEach(({ key, value }, i) => {
    Object.assign(feeds, tensorsOf(kvFeeds(config, `key${first + i}`, key, slots)));
    Object.assign(feeds, tensorsOf(kvFeeds(config, `value${first + i}`, value, slots)));
  });
  return feeds;
}

/** For each query head. */
function lastKept({ numHeads, numKvHeads, kv }: ModelConfig, mask: Float32Array, slots: number): Feeds[string] {
  const kept = keptPositions(mask, slots, kv!.share!);
  const perHead = kept.flatMap((count) => Array<number>(numHeads).fill(count - 1));
  return longs(perHead, [slots, numKvHeads, numHeads / numKvHeads, 1]);
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
