/**
 * Decoder layers whose weights stay in memory, built into graphs of their own: packed once, for every sweep.
 */
import { packedBytes } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';
import type { TensorName } from '../model/layers.js';
import type { ComputeBits, KeptLayer, LayerWeights } from './backend.js';
import * as graphs from './onnx-layers.js';
import { builtInProducts, byteProducts, fedProducts, type Products } from './onnx-products.js';
import { type Feeds, layerFeeds, type Session, type Sessions } from './onnx-session.js';
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
  options: KeepOptions,
): Promise<KeptLayer> {
  const preNorm = config.norm.placement !== 'post';
  const projectTensors = [...PROJECT_TENSORS, ...(preNorm ? ATTENTION_NORM : [])];
  const finishTensors = [...FINISH_TENSORS, ...FFN_NORM, ...(preNorm ? [] : ATTENTION_NORM)];
  const project = await openHalf(`project ${layer}`, weights, projectTensors, options, (products) =>
    graphs.projectGraph(config, products),
  );
  const finish = await openHalf(`finish ${layer}`, weights, finishTensors, options, (products) =>
    graphs.finishGraph(config, products),
  );
  return layerOf(config, layer, { project, finish }, options.steps);
}

/** A graph with its weights: built in, or to be fed. */
interface Half {
  readonly session: Session;
  readonly feeds: Feeds;
}

async function openHalf(
  name: string,
  weights: LayerWeights,
  names: readonly TensorName[],
  { sessions, computeBits }: KeepOptions,
  build: (products: Products) => Uint8Array,
): Promise<Half> {
  const builtIn = Object.values(weights).reduce((sum, matrix) => sum + packedBytes(matrix!), 0) <= MAX_BUILT_IN_BYTES;
  const fed = names.filter((each) => !builtIn || weights[each]?.shape.length === 1);
  const { forms, feeds } = layerFeeds(weights, fed);
  const builtInProductsOf = computeBits === 8 ? byteProducts : builtInProducts;
  const products = builtIn ? builtInProductsOf(weights) : fedProducts(forms);
  return { session: await sessions.get(name, () => build(products)), feeds };
}

/** Apart from where the weights are at hand: what is returned here would keep them alive. */
function layerOf(
  { hiddenSize, numHeads, headDim }: ModelConfig,
  layer: number,
  { project, finish }: { readonly project: Half; readonly finish: Half },
  steps: Steps,
): KeptLayer {
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
