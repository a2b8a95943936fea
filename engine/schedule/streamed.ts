/**
 * Layers whose weights lie partly in memory and partly on a slower tier: each product takes the resident rows first and
 * then the parts that stream by. All rows of the sweep, of every GPU batch, use a part while it is there (FlexGen §4.2).
 */
import type { Backend, HeadResult, LayerWeights } from '../backends/backend.js';
import { type PackedMatrix, rowParts, widen } from '../memory/packed.js';
import { Scratch } from '../memory/scratch.js';
import type { LoadedPart, PartSource, WeightStream } from '../memory/weight-stream.js';
import type { Experts, ModelConfig } from '../model/config.js';
import { denseFfnSize, type ExpertPart, queryKeySize, type TensorName, valueSize } from '../model/layers.js';
import { headInput, type LayerCompute, placeRows } from './compute.js';
import { addShares, routeRows, scaleBySigmoid, takeRows } from './experts.js';
import { mergeHeads } from './merge-heads.js';

/** What of a model stays in memory. */
export interface ResidentRows {
  /** By layer: vectors whole, matrices the rows that do not move; those of which all rows move are absent. */
  readonly layers: readonly LayerWeights[];
  /** What is used of a matrix at a time, as of those that stream. */
  readonly partBytes: number;
  /** Embeddings of these ids, wherever they lie: (ids, embeddingSize). */
  embeddings(ids: Int32Array): Promise<Float32Array>;
}

/** What does not stay. */
export interface StreamedRows {
  /** What every sweep uses, in its order. */
  readonly stream: WeightStream;
  /** What a layer uses of these experts, in their order, once. */
  openExperts(layer: number, experts: readonly number[]): WeightStream;
}

export function streamedCompute(
  backend: Backend,
  config: ModelConfig,
  resident: ResidentRows,
  { stream, openExperts }: StreamedRows,
): LayerCompute {
  const { hiddenSize, numHeads, headDim, norm: norms } = config;
  const headLayer = config.numLayers + 1;
  /** Products that are used up before the next of their name. */
  const scratch = new Scratch();
  const vector = (layer: number, name: TensorName) => {
    const matrix = resident.layers[layer]![name];
    return matrix && widen(matrix);
  };

  /** Calls `use` with every part of a tensor, resident rows first, one after another. */
  async function eachPart(
    source: PartSource,
    layer: number,
    names: readonly TensorName[],
    use: (parts: readonly PackedMatrix[], firstRow: number) => Promise<void>,
  ): Promise<void> {
    const kept = names.map((name) => resident.layers[layer]![name]);
    let row = 0;
    if (kept[0]) {
      const [parts, ...others] = kept.map((matrix) => rowParts(matrix!, resident.partBytes));
      for (const [i, part] of parts!.entries()) {
        await use([part, ...others.map((other) => other[i]!)], row);
        row += part.shape[0]!;
      }
    }
    for (let left = source.count(layer, names[0]!); left > 0; left--) {
      const parts: LoadedPart[] = [];
      try {
        for (const name of names) parts.push(await source.take(layer, name));
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

  /** input Wᵀ + b, part by part: (rows, outSize), until the next product of a tensor of this kind. */
  async function linear(
    source: PartSource,
    {
      layer,
      name,
      bias,
    }: { readonly layer: number; readonly name: TensorName; readonly bias?: Float32Array | undefined },
    input: Float32Array,
    [outSize, inSize]: readonly [number, number],
  ): Promise<Float32Array> {
    const result = scratch.take(kindOf(name), (input.length / inSize) * outSize);
    await eachPart(source, layer, [name], async ([part], firstRow) => {
      const ownBias = bias?.subarray(firstRow, firstRow + part!.shape[0]!);
      await backend.multiply(input, part!, ownBias, { rows: result, width: outSize, first: firstRow });
    });
    return result;
  }

  /** @param network begins the names of its tensors */
  async function feedForward(
    source: PartSource,
    layer: number,
    network: '' | `experts.${number}.`,
    input: Float32Array,
    size: number,
  ): Promise<Float32Array> {
    const inner = scratch.take('inner', (input.length / hiddenSize) * size);
    const named = (part: ExpertPart): TensorName => `${network}${part}`;
    const biased = (part: ExpertPart) => (network === '' ? vector(layer, `${part}Bias`) : undefined);
    const names = config.ffn.kind === 'gated' ? [named('gate'), named('up')] : [named('up')];
    const [gateBias, upBias] = [biased('gate'), biased('up')];
    await eachPart(source, layer, names, async (parts, firstRow) => {
      const up = parts.at(-1)!;
      const endRow = firstRow + up.shape[0]!;
      const ownParts = {
        up,
        ...(parts.length > 1 && { gate: parts[0]! }),
        ...(upBias && { upBias: upBias.subarray(firstRow, endRow) }),
        ...(gateBias && { gateBias: gateBias.subarray(firstRow, endRow) }),
      };
      await backend.feed(input, ownParts, { rows: inner, width: size, first: firstRow });
    });
    return linear(source, { layer, name: named('down'), bias: biased('down') }, inner, [hiddenSize, size]);
  }

  /** What every row uses, and on it what each row's experts add. Only experts that some row chose are read. */
  async function mixture(layer: number, input: Float32Array, experts: Experts): Promise<Float32Array> {
    const { router, shared } = resident.layers[layer]!;
    const chosen = routeRows(await backend.multiply(input, router!), experts);
    const source = openExperts(
      layer,
      chosen.map(({ expert }) => expert),
    );
    try {
      // They are read while the network beside them is computed.
      source.fill();
      const size = denseFfnSize(config);
      const sum = size > 0 ? await feedForward(stream, layer, '', input, size) : new Float32Array(input.length);
      if (shared) scaleBySigmoid(sum, hiddenSize, await backend.multiply(input, shared));
      for (const own of chosen) {
        const rows = takeRows(input, hiddenSize, own.rows);
        const output = await feedForward(source, layer, `experts.${own.expert}.`, rows, config.ffnSize);
        addShares(sum, hiddenSize, own, output);
      }
      return sum;
    } finally {
      await source.close();
    }
  }

  const secondHalf = (layer: number, input: Float32Array) =>
    config.experts ? mixture(layer, input, config.experts) : feedForward(stream, layer, '', input, config.ffnSize);

  const norm = (
    layer: number,
    name: 'attentionNorm' | 'attentionOutNorm' | 'ffnNorm' | 'ffnOutNorm',
    hidden: Float32Array,
  ) => backend.norm(hidden, vector(layer, name)!, vector(layer, `${name}Bias`));

  return {
    async embed(tokens, positions) {
      stream.fill();
      return placeRows(backend, config, await resident.embeddings(tokens), positions, resident.layers[0]!);
    },

    async project(layer, hidden, positions) {
      const at = layer + 1;
      const input = norms.placement === 'post' ? hidden : await norm(at, 'attentionNorm', hidden);
      const width = queryKeySize(config) + valueSize(config);
      const qkv = { layer: at, name: 'qkv', bias: vector(at, 'qkvBias') } as const;
      return backend.rotate(
        layer,
        resident.layers[at]!,
        await linear(stream, qkv, input, [width, hiddenSize]),
        positions,
      );
    },

    async finish(layer, hidden, attended) {
      const at = layer + 1;
      const wo = { layer: at, name: 'output', bias: vector(at, 'outputBias') } as const;
      const output = await linear(stream, wo, attended, [hiddenSize, numHeads * headDim]);
      switch (norms.placement) {
        case 'pre': {
          const mixed = add(hidden, output);
          const input = await norm(at, 'ffnNorm', config.parallelResidual ? hidden : mixed);
          return add(mixed, await secondHalf(at, input));
        }
        case 'post': {
          const mixed = await norm(at, 'attentionNorm', add(hidden, output));
          return norm(at, 'ffnNorm', add(mixed, await secondHalf(at, mixed)));
        }
        case 'both': {
          const mixed = add(hidden, await norm(at, 'attentionOutNorm', output));
          const result = await secondHalf(at, await norm(at, 'ffnNorm', mixed));
          return add(mixed, await norm(at, 'ffnOutNorm', result));
        }
      }
    },

    async logits(request) {
      const input = request && (await headInput(backend, request.hidden, resident.layers[headLayer]!));
      const parts: { firstRow: number; result: HeadResult }[] = [];
      await eachPart(stream, headLayer, ['tokens'], async ([part], firstRow) => {
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

/** The experts' tensors are one kind: their shares are added before the next expert's come. */
function kindOf(name: TensorName): string {
  return name.startsWith('experts.') ? 'experts' : name;
}

function add(a: Float32Array, b: Float32Array): Float32Array {
  const sum = new Float32Array(a.length);
  for (let i = 0; i < sum.length; i++) sum[i] = a[i]! + b[i]!;
  return sum;
}
