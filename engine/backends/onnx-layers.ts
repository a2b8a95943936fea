/**
 * The graphs of a layer but for its attention: projection, the rest of the layer, and the head.
 *
 * Rows come packed; `rows` and `part` are sizes known at run time only.
 */
import { rotaryOf } from '../model/attention.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, type TensorName, valueSize } from '../model/layers.js';
import { type Dimension, GraphBuilder } from './onnx-graph.js';
import type { PackedForm } from './onnx-packed.js';
import { fedProducts, type Products } from './onnx-products.js';

export const MICROSOFT = 'com.microsoft';

/** hidden (rows, hiddenSize) -> queryKey, value: norm, joined product, rotation. */
export function projectGraph(config: ModelConfig, products: Products): Uint8Array {
  const { hiddenSize } = config;
  const width = queryKeySize(config) + valueSize(config);
  const graph = new GraphBuilder('project');
  const hidden = graph.input('hidden', 'float32', ['rows', hiddenSize]);
  const normed = config.norm.placement === 'post' ? hidden : norm(graph, config, hidden, 'attentionNorm');
  const joined = linear(graph, products, normed, 'qkv', [width, hiddenSize], config.bias.qkv);
  outputProjection(graph, config, joined);
  return graph.build();
}

/** Splits and rotates what `multiply` made of the joined matrix. */
export function rotateGraph(config: ModelConfig): Uint8Array {
  const graph = new GraphBuilder('rotate');
  outputProjection(graph, config, graph.input('joined', 'float32', ['rows', queryKeySize(config) + valueSize(config)]));
  return graph.build();
}

/** Output product, residual, norm, feed-forward, residual, in the order that the model has. */
export function finishGraph(config: ModelConfig, products: Products): Uint8Array {
  const { hiddenSize, numHeads, headDim, bias, parallelResidual } = config;
  const graph = new GraphBuilder('finish');
  const hidden = graph.input('hidden', 'float32', ['rows', hiddenSize]);
  const attended = graph.input('attended', 'float32', ['rows', numHeads * headDim]);
  const output = linear(graph, products, attended, 'output', [hiddenSize, numHeads * headDim], bias.output);
  const normed = (name: string, value: string) => norm(graph, config, value, name);
  const feedForward = (value: string) => feedForwardOf(graph, config, products, value);
  const add = (a: string, b: string) => graph.node('Add', [a, b]);
  const result = () => {
    switch (config.norm.placement) {
      case 'pre': {
        const mixed = add(hidden, output);
        return add(mixed, feedForward(normed('ffnNorm', parallelResidual ? hidden : mixed)));
      }
      case 'post': {
        const mixed = normed('attentionNorm', add(hidden, output));
        return normed('ffnNorm', add(mixed, feedForward(mixed)));
      }
      case 'both': {
        const mixed = add(hidden, normed('attentionOutNorm', output));
        return add(mixed, normed('ffnOutNorm', feedForward(normed('ffnNorm', mixed))));
      }
    }
  };
  graph.output('result', result(), 'float32', ['rows', hiddenSize]);
  return graph.build();
}

function feedForwardOf(graph: GraphBuilder, config: ModelConfig, products: Products, input: string): string {
  const { hiddenSize, ffnSize, bias, ffn } = config;
  const up = linear(graph, products, input, 'up', [ffnSize, hiddenSize], bias.ffn);
  const gate = ffn.kind === 'gated' && linear(graph, products, input, 'gate', [ffnSize, hiddenSize], bias.ffn);
  return linear(graph, products, gated(graph, config, up, gate), 'down', [hiddenSize, ffnSize], bias.ffn);
}

/** Norm alone, with a bias for LayerNorm. */
export function normGraph(config: ModelConfig): Uint8Array {
  const graph = new GraphBuilder('norm');
  const hidden = graph.input('hidden', 'float32', ['rows', config.hiddenSize]);
  graph.output('normed', norm(graph, config, hidden, 'norm'), 'float32', ['rows', config.hiddenSize]);
  return graph.build();
}

/** Rows times some rows of a matrix. */
export function multiplyGraph(form: PackedForm, bias: boolean): Uint8Array {
  const graph = new GraphBuilder('multiply');
  const input = graph.input('input', 'float32', ['rows', 'in']);
  const product = linear(graph, fedProducts({ up: form }), input, 'up', ['part', 'in'], bias);
  graph.output('product', product, 'float32', ['rows', 'part']);
  return graph.build();
}

/** Some columns of the feed-forward's inner activations. */
export function feedGraph(config: ModelConfig, form: PackedForm): Uint8Array {
  const graph = new GraphBuilder('feed');
  const input = graph.input('input', 'float32', ['rows', config.hiddenSize]);
  const shape = ['part', config.hiddenSize];
  const up = linear(graph, fedProducts({ up: form }), input, 'up', shape, config.bias.ffn);
  const gate =
    config.ffn.kind === 'gated' && linear(graph, fedProducts({ gate: form }), input, 'gate', shape, config.bias.ffn);
  graph.output('inner', gated(graph, config, up, gate), 'float32', ['rows', 'part']);
  return graph.build();
}

/** Logits never leave the graph unless asked for: a vocabulary a row is slower to copy than to compute with. */
export function headGraph(
  config: ModelConfig,
  width: number,
  form: PackedForm,
  variant: { targets: boolean; all: boolean },
): Uint8Array {
  const graph = new GraphBuilder('head');
  const input = graph.input('input', 'float32', ['rows', width]);
  const product = linear(graph, fedProducts({ tokens: form }), input, 'tokens', ['part', width], false);
  const logits = softcapped(graph, product, config.logitSoftcap);
  const top = graph.input('top', 'int64', [1]);
  const [values, ids] = graph.nodes_('TopK', [logits, top], 2, { axis: 1 }) as [string, string];
  graph.output('logSumExp', logSumExp(graph, logits, values), 'float32', ['rows']);
  graph.output('topLogits', values, 'float32', ['rows', 'top']);
  graph.output('topIds', graph.node('Cast', [ids], { to: 6 }), 'int32', ['rows', 'top']);
  if (variant.targets) {
    const targets = graph.input('targets', 'int64', ['rows', 'targets']);
    const chosen = graph.node('GatherElements', [logits, targets], { axis: 1 });
    graph.output('targetLogits', chosen, 'float32', ['rows', 'targets']);
  }
  if (variant.all) graph.output('logits', logits, 'float32', ['rows', 'part']);
  return graph.build();
}

/**
 * As the largest logit less its log-probability: LogSoftmax is vectorised, and rounds a row alone as in a batch, which a
 * sum of exponentials does not; ReduceLogSumExp takes half as long as the product before it.
 */
function logSumExp(graph: GraphBuilder, logits: string, top: string): string {
  const [axis, first] = [graph.ints(1), graph.ints(0)];
  const largest = graph.node('Squeeze', [graph.node('Slice', [top, first, axis, axis]), axis]);
  const logprobs = graph.node('LogSoftmax', [logits], { axis: 1 });
  return graph.node('Sub', [largest, graph.node('ReduceMax', [logprobs, axis], { keepdims: 0 })]);
}

function outputProjection(graph: GraphBuilder, config: ModelConfig, joined: string): void {
  const [queryKeyWidth, valueWidth] = [queryKeySize(config), valueSize(config)];
  const [queryKey, value] = graph.split(joined, 1, queryKeyWidth, valueWidth) as [string, string];
  const heads = config.attention?.queryKeyNorm ? headNorms(graph, config, queryKey) : queryKey;
  const turned = rotated(graph, config, heads, config.numHeads + config.numKvHeads);
  graph.output('queryKey', turned, 'float32', ['rows', queryKeyWidth]);
  graph.output('value', value, 'float32', ['rows', valueWidth]);
}

function gated(graph: GraphBuilder, config: ModelConfig, up: string, gate: string | false): string {
  return gate ? graph.node('Mul', [activation(graph, config, gate), up]) : activation(graph, config, up);
}

/** Each head by itself; the weight is the same for all queries, and for all keys. */
function headNorms(graph: GraphBuilder, config: ModelConfig, queryKey: string): string {
  const { numHeads, numKvHeads, headDim } = config;
  const [query, key] = graph.split(queryKey, 1, numHeads * headDim, numKvHeads * headDim) as [string, string];
  const normed = (value: string, name: string, heads: number) => {
    const weight = graph.input(name, 'float32', [headDim]);
    const inputs = [graph.reshape(value, -1, heads, headDim), weight];
    const attributes = { axis: -1, epsilon: { float: config.norm.eps } };
    return graph.reshape(graph.node('SimplifiedLayerNormalization', inputs, attributes), -1, heads * headDim);
  };
  const both = [normed(query, 'queryNorm', numHeads), normed(key, 'keyNorm', numKvHeads)];
  return graph.node('Concat', both, { axis: 1 });
}

function activation(graph: GraphBuilder, config: ModelConfig, value: string): string {
  switch (config.ffn.activation) {
    case 'relu':
      return graph.node('Relu', [value]);
    case 'silu':
      // x * sigmoid(x), fused.
      return graph.node('QuickGelu', [value], { alpha: { float: 1 } }, MICROSOFT);
    case 'gelu':
      return graph.node('Gelu', [value], { approximate: 'none' });
    case 'geluTanh':
      return graph.node('Gelu', [value], { approximate: 'tanh' });
  }
}

export function softcapped(graph: GraphBuilder, value: string, cap: number | undefined): string {
  if (cap === undefined) return value;
  const constant = graph.constant('float32', [1], Float32Array.of(cap));
  return graph.node('Mul', [graph.node('Tanh', [graph.node('Div', [value, constant])]), constant]);
}

/** The product with a matrix of the layer, whose bias (`<name>Bias`) is an input. */
function linear(
  graph: GraphBuilder,
  products: Products,
  value: string,
  name: TensorName,
  shape: readonly Dimension[],
  hasBias: boolean,
): string {
  const bias = hasBias ? graph.input(`${name}Bias`, 'float32', [shape[0]!]) : undefined;
  return products(graph, value, { name, shape, bias });
}

function norm(graph: GraphBuilder, config: ModelConfig, value: string, name: string): string {
  const weight = graph.input(name, 'float32', [config.hiddenSize]);
  const epsilon = { float: config.norm.eps };
  if (config.norm.kind === 'rms') {
    return graph.node('SimplifiedLayerNormalization', [value, weight], { axis: -1, epsilon });
  }
  const bias = graph.input(`${name}Bias`, 'float32', [config.hiddenSize]);
  return graph.node('LayerNormalization', [value, weight, bias], { axis: -1, epsilon });
}

function rotated(graph: GraphBuilder, config: ModelConfig, heads: string, numHeads: number): string {
  // Layers may turn at other speeds; that is in the tables, which are fed.
  const rotary = rotaryOf(config, 0);
  if (!rotary) return heads;
  const { rotaryDim } = rotary;
  const table = (name: string) => graph.input(name, 'float32', [config.maxPositions, rotaryDim / 2]);
  const positions = graph.input('positions', 'int64', [1, 'rows']);
  const width = numHeads * config.headDim;
  const partial = rotaryDim < config.headDim ? { rotary_embedding_dim: rotaryDim } : {};
  const inputs = [graph.reshape(heads, 1, -1, width), positions, table('cos'), table('sin')];
  const turned = graph.node('RotaryEmbedding', inputs, { num_heads: numHeads, ...partial }, MICROSOFT);
  return graph.reshape(turned, -1, width);
}
