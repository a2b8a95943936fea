/**
 * What the engine keeps of the speed that its products have alone: layers whose weights stay, and weights in float16 that come in
 * parts, beside graphs of one product each, in turn.
 *
 *     node dist/test/bench/products.js [--rounds N]
 *
 * A layer's time has its norms, its rotation and its residuals in it, and all that goes in and out. Nothing else may run
 * meanwhile. Writes a Markdown table, and ends with exit code 1 where a target is missed.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import type { Backend, KeptLayer, LayerWeights } from '../../engine/backends/backend.js';
import { openOnnx } from '../../engine/backends/onnx.js';
import { GraphBuilder } from '../../engine/backends/onnx-graph.js';
import { float, type Session, Sessions } from '../../engine/backends/onnx-session.js';
import { rowTiles } from '../../engine/backends/row-tiles.js';
import { collectAtOnce } from '../../engine/collector.js';
import { medianSeconds, randomPart, randomValues } from '../../engine/measure-compute.js';
import { float32Matrix, packedRowBytes, sliceRows } from '../../engine/memory/packed.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { layerTensors } from '../../engine/model/layers.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { openModel } from '../../engine/model/open.js';
import { MAX_PART_BYTES } from '../../engine/policy/policy.js';
import { smollm2Path } from '../support/smollm2.js';
import { atLeast, type Check, median, print, printChecks } from './checks.js';

/** Of the speed alone. */
const LEAST_SHARE = 0.8;
/** Of one side in one round. */
const MILLISECONDS = 500;
const ROWS = [64, 512];
/** Of different weights, so that these are no more in the processor's caches than a model's are. */
const LAYERS = 4;

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' } } });
const threads = availableParallelism();

/** A decoder layer's matrix, (out, in). */
type Shape = readonly [out: number, width: number];
/** Computes all products of a layer once, of one layer after another. */
type Side = (rows: number) => Promise<unknown>;

collectAtOnce();
const smollm2 = await openModel(smollm2Path);
await smollm2.weights.close();
print('| Model | Rows | alone, GFLOP/s | weights that stay | weights in parts |');
print('| --- | ---: | ---: | ---: | ---: |');
const checks = [
  ...(await compare('SmolLM2-135M', smollm2.weights.config)),
  ...(await compare('llama-1.1b', namedShape('llama-1.1b'))),
];
process.exitCode = printChecks(checks) ? 0 : 1;

async function compare(name: string, config: ModelConfig): Promise<Check[]> {
  const backend = await openOnnx(config, { threads });
  const sessions = new Sessions(threads);
  const shapes = layerTensors(config, 1)
    .map(({ shape }) => shape)
    .filter((shape) => shape.length === 2) as unknown as Shape[];
  try {
    const sides = {
      alone: await alone(sessions, shapes),
      kept: await kept(backend, config),
      parts: inParts(backend, shapes),
    };
    const found: Check[] = [];
    for (const rows of ROWS) {
      const seconds: Record<keyof typeof sides, number[]> = { alone: [], kept: [], parts: [] };
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const side of ['alone', 'kept', 'parts'] as const) {
          const act = () => sides[side](rows);
          seconds[side].push(await medianSeconds({ backend, milliseconds: MILLISECONDS }, act));
        }
      }
      const flops = shapes.reduce((sum, [out, width]) => sum + 2 * rows * out * width, 0);
      const rate = (side: keyof typeof sides) => flops / median(seconds[side]) / 1e9;
      const whole = rate('alone');
      const inside = [
        ['weights that stay', rate('kept')],
        ['weights in parts', rate('parts')],
      ] as const;
      print(`| ${name} | ${rows} | ${whole.toFixed(0)} | ${inside.map(([, one]) => share(one, whole)).join(' | ')} |`);
      const checks = inside.map(([what, one]) =>
        atLeast(`${name}, ${rows} rows, ${what}, over alone`, one / whole, LEAST_SHARE),
      );
      found.push(...checks);
    }
    return found;
  } finally {
    await sessions.close();
    await backend.close();
  }
}

/** Each product a graph of its own with its weights built in, which returns one row of many: what goes out costs nothing. */
async function alone(sessions: Sessions, shapes: readonly Shape[]): Promise<Side> {
  const products: { readonly session: Session; readonly width: number }[] = [];
  for (const [i, [out, width]] of shapes.entries()) {
    const build = () => {
      const graph = new GraphBuilder('product');
      const input = graph.input('input', 'float32', ['rows', width]);
      const matrix = graph.constant('float32', [out, width], randomValues(out * width));
      const product = graph.node('Gemm', [input, matrix], { transB: 1 });
      const first = graph.node('Slice', [product, graph.ints(0), graph.ints(1), graph.ints(0)]);
      graph.output('first', first, 'float32', [1, out]);
      return graph.build();
    };
    products.push({ session: await sessions.get(`product ${i}`, build), width });
  }
  const inputs = inputsOf(shapes);
  return async (rows) => {
    for (const { session, width } of products) await session.run({ input: float(inputs(rows, width), [rows, width]) });
  };
}

async function kept(backend: Backend, config: ModelConfig): Promise<Side> {
  const layers: KeptLayer[] = [];
  for (let layer = 0; layer < LAYERS; layer++) layers.push(await backend.keep(layer, randomLayer(config)));
  const width = config.numHeads * config.headDim;
  const inputs = inputsOf([
    [0, config.hiddenSize],
    [0, width],
  ]);
  let next = 0;
  return async (rows) => {
    const layer = layers[next++ % LAYERS]!;
    const positions = Int32Array.from({ length: rows }, (_, row) => row % config.maxPositions);
    await layer.project(inputs(rows, config.hiddenSize), positions);
    await layer.finish(inputs(rows, config.hiddenSize), inputs(rows, width));
  };
}

function inParts(backend: Backend, shapes: readonly Shape[]): Side {
  const parts = shapes.flatMap(([out, width]) => {
    const matrix = randomPart('float16', [out, width]);
    const most = Math.floor(MAX_PART_BYTES / packedRowBytes('float16', width));
    return Array.from(rowTiles(out, most), ({ start, end }) => ({ width, part: sliceRows(matrix, start, end) }));
  });
  const inputs = inputsOf(shapes);
  return async (rows) => {
    for (const { width, part } of parts) await backend.multiply(inputs(rows, width), part);
  };
}

function randomLayer(config: ModelConfig): LayerWeights {
  const tensors = layerTensors(config, 1).map(({ name, shape }) => {
    const [out, width] = shape as [number, number?];
    return [name, width === undefined ? float32Matrix(randomValues(out), [out]) : randomPart('float32', [out, width])];
  });
  return Object.fromEntries(tensors) as LayerWeights;
}

/** Rows of each width, made once. */
function inputsOf(shapes: readonly Shape[]): (rows: number, width: number) => Float32Array {
  const most = Math.max(...ROWS);
  const made = new Map(shapes.map(([, width]) => [width, randomValues(most * width)]));
  return (rows, width) => made.get(width)!.subarray(0, rows * width);
}

function share(inside: number, whole: number): string {
  return `${inside.toFixed(0)} (${Math.round((100 * inside) / whole)} %)`;
}
