/**
 * Layers whose weights lie partly in memory and partly on a slower tier: each product takes the resident rows first and
 * then the parts that stream by. All rows of the sweep, of every GPU batch, use a part while it is there (FlexGen §4.2).
 */
import type { Backend, HeadResult, LayerWeights } from '../backends/backend.js';
import { type PackedMatrix, widen } from '../memory/packed.js';
import type { LoadedPart, WeightStream } from '../memory/weight-stream.js';
import type { ModelConfig } from '../model/config.js';
import type { TensorName } from '../model/layers.js';
import { headInput, type LayerCompute, placeRows } from './compute.js';
import { mergeHeads } from './merge-heads.js';

/** What of a model stays in memory. */
export interface ResidentRows {
  /** By layer: vectors whole, matrices the rows that do not move; those of which all rows move are absent. */
  readonly layers: readonly LayerWeights[];
  /** Embeddings of these ids, wherever they lie: (ids, embeddingSize). */
  embeddings(ids: Int32Array): Promise<Float32Array>;
}

export function streamedCompute(
  backend: Backend,
  config: ModelConfig,
  resident: ResidentRows,
  stream: WeightStream,
): LayerCompute {
  const { hiddenSize, ffnSize, numHeads, headDim } = config;
  const headLayer = config.numLayers + 1;
  const preNorm = config.norm.placement === 'pre';
  const vector = (layer: number, name: TensorName) => {
    const matrix = resident.layers[layer]![name];
    return matrix && widen(matrix);
  };

  /** Calls `use` with every part of a tensor, resident rows first, one after another. */
  async function eachPart(
    layer: number,
    names: readonly TensorName[],
    use: (parts: readonly PackedMatrix[], firstRow: number) => Promise<void>,
  ): Promise<void> {
    const kept = names.map((name) => resident.layers[layer]![name]);
    let row = 0;
    if (kept[0]) {
      await use(kept as PackedMatrix[], 0);
      row = kept[0].shape[0]!;
    }
    for (let left = stream.count(layer, names[0]!); left > 0; left--) {
      const parts: LoadedPart[] = [];
      try {
        for (const name of names) parts.push(await stream.take(layer, name));
        await use(
          parts.map(({ matrix }) => matrix),
          row,
        );
        row += parts[0]!.matrix.shape[0]!;
      } finally {
        for (const part of parts) part.release();
      }
    }
  }

  /** input Wᵀ + b, part by part: (rows, outSize). */
  async function linear(
    layer: number,
    name: TensorName,
    input: Float32Array,
    outSize: number,
    inSize: number,
    bias?: Float32Array,
  ): Promise<Float32Array> {
    const result = new Float32Array((input.length / inSize) * outSize);
    await eachPart(layer, [name], async ([part], firstRow) => {
      const rows = part!.shape[0]!;
      const product = await backend.multiply(input, part!, bias?.subarray(firstRow, firstRow + rows));
      putColumns(result, outSize, product, firstRow);
    });
    return result;
  }

  async function feedForward(layer: number, input: Float32Array): Promise<Float32Array> {
    const inner = new Float32Array((input.length / hiddenSize) * ffnSize);
    const names: TensorName[] = config.ffn.kind === 'gated' ? ['gate', 'up'] : ['up'];
    const upBias = vector(layer, 'upBias');
    await eachPart(layer, names, async (parts, firstRow) => {
      const up = parts.at(-1)!;
      const product = await backend.feed(input, {
        up,
        ...(parts.length > 1 && { gate: parts[0]! }),
        ...(upBias && { upBias: upBias.subarray(firstRow, firstRow + up.shape[0]!) }),
      });
      putColumns(inner, ffnSize, product, firstRow);
    });
    return linear(layer, 'down', inner, hiddenSize, ffnSize, vector(layer, 'downBias'));
  }

  const norm = (layer: number, name: 'attentionNorm' | 'ffnNorm', hidden: Float32Array) =>
    backend.norm(hidden, vector(layer, name)!, vector(layer, `${name}Bias`));

  return {
    async embed(tokens, positions) {
      stream.fill();
      return placeRows(backend, config, await resident.embeddings(tokens), positions, resident.layers[0]!);
    },

    async project(layer, hidden, positions) {
      const at = layer + 1;
      const input = preNorm ? await norm(at, 'attentionNorm', hidden) : hidden;
      const width = (config.numHeads + 2 * config.numKvHeads) * headDim;
      return backend.rotate(await linear(at, 'qkv', input, width, hiddenSize, vector(at, 'qkvBias')), positions);
    },

    async finish(layer, hidden, attended) {
      const at = layer + 1;
      const output = await linear(at, 'output', attended, hiddenSize, numHeads * headDim, vector(at, 'outputBias'));
      const mixed = add(hidden, output);
      const residual = preNorm ? mixed : await norm(at, 'attentionNorm', mixed);
      const input = preNorm ? await norm(at, 'ffnNorm', residual) : residual;
      const result = add(residual, await feedForward(at, input));
      return preNorm ? result : norm(at, 'ffnNorm', result);
    },

    async logits(request) {
      const input = request && (await headInput(backend, request.hidden, resident.layers[headLayer]!));
      const parts: { firstRow: number; result: HeadResult }[] = [];
      await eachPart(headLayer, ['tokens'], async ([part], firstRow) => {
        if (!request) return;
        const rows = part!.shape[0]!;
        const { targets } = request;
        const result = await backend.head(part!, {
          input: input!,
          top: Math.min(rows, request.top),
          ...(targets && { targets: { ...targets, ids: targets.ids.map((id) => within(id - firstRow, rows)) } }),
          ...(request.all && { all: true }),
        });
        parts.push({ firstRow, result });
      });
      return request && mergeHeads(parts, request, config.vocabSize);
    },

    rewind: () => stream.rewind(),
  };
}

/** Any id will do for a target of another part: its logit is not looked at. */
function within(id: number, rows: number): number {
  return Math.min(rows - 1, Math.max(0, id));
}

/** Puts (rows, n) into columns firstColumn.. of (rows, width). */
function putColumns(into: Float32Array, width: number, columns: Float32Array, firstColumn: number): void {
  const rows = into.length / width;
  const count = columns.length / rows;
  if (count === width) {
    into.set(columns);
    return;
  }
  for (let row = 0; row < rows; row++) {
    into.set(columns.subarray(row * count, (row + 1) * count), row * width + firstColumn);
  }
}

function add(a: Float32Array, b: Float32Array): Float32Array {
  const sum = new Float32Array(a.length);
  for (let i = 0; i < sum.length; i++) sum[i] = a[i]! + b[i]!;
  return sum;
}
