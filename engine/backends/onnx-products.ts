/**
 * How a graph multiplies rows by a matrix of a layer: a matrix that is fed with every run, or one that is built in.
 *
 * A fed matrix serves streams, and one graph serves all layers. One that is built in is packed once, for the kernels, so
 * products of few rows gain most: by 1.2 to 1.7 from 64 rows down.
 */
import { type PackedMatrix, widen } from '../memory/packed.js';
import type { TensorName } from '../model/layers.js';
import type { LayerWeights } from './backend.js';
import type { Dimension, GraphBuilder } from './onnx-graph.js';
import { type PackedForm, packedInput } from './onnx-packed.js';

const MICROSOFT = 'com.microsoft';

/** A matrix (out, in) of the layer, whose product a graph takes. */
export interface ProductOf {
  readonly name: TensorName;
  readonly shape: readonly Dimension[];
  /** A value of the graph (out), added to every row. */
  readonly bias?: string | undefined;
}

/** Adds a product of `value` (rows, in) to the graph. @returns (rows, out) */
export type Products = (graph: GraphBuilder, value: string, matrix: ProductOf) => string;

/** How a layer's matrices are stored; float32 where nothing is said. */
export type StoredForms = Readonly<Partial<Record<TensorName, PackedForm>>>;

/** Matrices are inputs of the graph, in whatever form they are stored. */
export function fedProducts(forms: StoredForms): Products {
  return (graph, value, { name, shape, bias }) =>
    gemm(graph, value, packedInput(graph, name, forms[name] ?? 'float32', shape), bias);
}

/** Matrices are constants of the graph, in float32. */
export function builtInProducts(weights: LayerWeights): Products {
  return (graph, value, { name, bias }) => {
    const matrix = weights[name]!;
    return gemm(graph, value, graph.constant('float32', matrix.shape, widen(matrix)), bias);
  };
}

/** Steps from zero to the largest magnitude of a row. */
const BYTE_STEPS = 127;
/** What zero is stored as: kernels multiply unsigned rows by signed columns. */
const BYTE_ZERO = 128;
/** A row of zeros is divided by this, and stays one. */
const LEAST_MAGNITUDE = 1e-30;

/**
 * Products of 8-bit integers, exact in 32 bits: every row of activations in steps of its own largest magnitude, and every
 * row of the matrix likewise (LLM.int8(), §2.1: vector-wise quantisation). A row's result does not depend on its
 * neighbours.
 */
export function byteProducts(weights: LayerWeights): Products {
  const quantised = new Map<string, QuantisedRows>();
  return (graph, value, { name, bias }) => {
    const rows = quantised.get(value) ?? quantiseRows(graph, value);
    quantised.set(value, rows);
    const { codes, scales, shape } = byteMatrix(weights[name]!);
    const matrix = graph.constant('int8', shape, codes);
    const columnScales = graph.constant('float32', [scales.length], scales);
    const inputs = [rows.codes, matrix, rows.step, columnScales, rows.zero];
    const product = graph.node('MatMulIntegerToFloat', inputs, {}, MICROSOFT);
    const scaled = graph.node('Mul', [product, rows.magnitude]);
    return bias ? graph.node('Add', [scaled, bias]) : scaled;
  };
}

/** Values of a graph. */
interface QuantisedRows {
  /** (rows, in) */
  readonly codes: string;
  /** (rows, 1) what each row was divided by. */
  readonly magnitude: string;
  readonly step: string;
  readonly zero: string;
}

function quantiseRows(graph: GraphBuilder, value: string): QuantisedRows {
  const largest = graph.node('ReduceMax', [graph.node('Abs', [value]), graph.ints(1)], { keepdims: 1 });
  const magnitude = graph.node('Max', [largest, graph.constant('float32', [1], Float32Array.of(LEAST_MAGNITUDE))]);
  const step = graph.constant('float32', [], Float32Array.of(1 / BYTE_STEPS));
  const zero = graph.constant('uint8', [], Uint8Array.of(BYTE_ZERO));
  const codes = graph.node('QuantizeLinear', [graph.node('Div', [value, magnitude]), step, zero]);
  return { codes, magnitude, step, zero };
}

/** Each row (out) in steps of its own largest magnitude, transposed: codes (in, out), scales (out). */
export function byteMatrix(matrix: PackedMatrix) {
  const [out, width] = matrix.shape as [number, number];
  const values = widen(matrix);
  const codes = new Int8Array(values.length);
  const scales = new Float32Array(out);
  for (let row = 0; row < out; row++) {
    let largest = LEAST_MAGNITUDE;
    for (let i = 0; i < width; i++) largest = Math.max(largest, Math.abs(values[row * width + i]!));
    scales[row] = largest / BYTE_STEPS;
    for (let i = 0; i < width; i++) codes[i * out + row] = Math.round(values[row * width + i]! / scales[row]!);
  }
  return { codes, scales, shape: [width, out] };
}

function gemm(graph: GraphBuilder, value: string, matrix: string, bias: string | undefined): string {
  return graph.node('Gemm', bias ? [value, matrix, bias] : [value, matrix], { transB: 1 });
}
