/**
 * Decoder layers whose weights stay in memory, built into graphs of their own: packed once, for every sweep.
 */
import { packedBytes } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';
import type { TensorName } from '../model/layers.js';
import type { ComputeBits, KeptLayer, LayerWeights } from './backend.js';
import * as graphs from './onnx-layers.js';
import { builtInProducts, byteProducts, fedProducts } from './onnx-products.js';
import { layerFeeds, type Sessions } from './onnx-session.js';
import type { Steps } from './onnx-steps.js';

/** What each half of a layer reads; which norms, depends on where the family puts them. */
export const HEAD_NORMS: readonly TensorName[] = ['queryNorm', 'keyNorm'];
const PROJECT_TENSORS: readonly TensorName[] = ['qkv', 'qkvBias', ...HEAD_NORMS];
const FEED_TENSORS: readonly TensorName[] = ['gate', 'gateBias', 'up', 'upBias', 'down', 'downBias'];
const OUT_NORMS: readonly TensorName[] = ['attentionOutNorm', 'attentionOutNormBias', 'ffnOutNorm', 'ffnOutNormBias'];
const FINISH_TENSORS: readonly TensorName[] = ['output', 'outputBias', ...FEED_TENSORS, ...OUT_NORMS];
const ATTENTION_NORM: readonly TensorName[] = ['attentionNorm', 'attentionNormBias'];
const FFN_NORM: readonly TensorName[] = ['ffnNorm', 'ffnNormBias'];

/** A graph is one message of Protocol Buffers, which ends at 2 GiB; larger layers are fed. */
const MAX_BUILT_IN_BYTES = 2 ** 30;

export interface KeepOptions {
  readonly sessions: Sessions;
  readonly steps: Steps;
  readonly computeBits: ComputeBits;
}

export async function keepLayer(
  config: ModelConfig,
  layer: number,
  weights: LayerWeights,
  { sessions, steps, computeBits }: KeepOptions,
): Promise<KeptLayer> {
  const { hiddenSize, numHeads, headDim } = config;
  const preNorm = config.norm.placement !== 'post';
  const builtIn = Object.values(weights).reduce((sum, matrix) => sum + packedBytes(matrix!), 0) <= MAX_BUILT_IN_BYTES;

  async function half(name: string, names: readonly TensorName[], build: typeof graphs.projectGraph) {
    const fed = names.filter((each) => !builtIn || weights[each]?.shape.length === 1);
    const { forms, feeds } = layerFeeds(weights, fed);
    const builtInOf = computeBits === 8 ? byteProducts : builtInProducts;
    const products = builtIn ? builtInOf(weights) : fedProducts(forms);
    return { session: await sessions.get(`${name} ${layer}`, () => build(config, products)), feeds };
  }

  const project = await half('project', [...PROJECT_TENSORS, ...(preNorm ? ATTENTION_NORM : [])], graphs.projectGraph);
  const finish = await half(
    'finish',
    [...FINISH_TENSORS, ...FFN_NORM, ...(preNorm ? [] : ATTENTION_NORM)],
    graphs.finishGraph,
  );
  return {
    project(hidden, positions) {
      const rows = { hidden: { data: hidden, width: hiddenSize } };
      return steps.projection(project.session, project.feeds, rows, { layer, positions });
    },
    finish(hidden, attended) {
      const rows = {
        hidden: { data: hidden, width: hiddenSize },
        attended: { data: attended, width: numHeads * headDim },
      };
      return steps.rowwise(finish.session, finish.feeds, rows, hiddenSize);
    },
  };
}
