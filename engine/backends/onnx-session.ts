/**
 * The door to onnxruntime-node: sessions, and the tensors that go in and come out.
 *
 * Feeds are not copied; every fetched output is, so only small things are fetched. `run` blocks its thread: see host.ts.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { EngineError } from '../errors.js';
import type { PackedMatrix } from '../memory/packed.js';
import type { TensorName } from '../model/layers.js';
import type { LayerWeights } from './backend.js';
import { type PackedFeed, type PackedForm, packedFeeds, packedForm } from './onnx-packed.js';
import { computedRows, type RowTile, takeTile } from './row-tiles.js';

export type Feeds = Record<string, Tensor>;
export type Session = InferenceSession;

/** Sessions by name, made when first needed: making one takes a millisecond or two, and what its weights take to pack. */
export class Sessions {
  private readonly open = new Map<string, Promise<Session>>();

  constructor(private readonly threads: number) {}

  get(name: string, build: () => Uint8Array): Promise<Session> {
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
export type Rows = Readonly<Record<string, { readonly data: Float32Array; readonly width: number }>>;

export function rowFeeds(rows: Rows, tile: RowTile): Feeds {
  const entries = Object.entries(rows).map(([name, { data, width }]) => [
    name,
    float(takeTile(data, width, tile), [computedRows(tile), width]),
  ]);
  return Object.fromEntries(entries);
}

/** Those of the named tensors that the layer has, and how its matrices are stored. */
export function layerFeeds(weights: LayerWeights, names: readonly TensorName[]) {
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

export function matrixFeeds(name: string, matrix: PackedMatrix): Feeds {
  return tensorsOf(packedFeeds(name, matrix));
}

export function tensorsOf(feeds: Record<string, PackedFeed>): Feeds {
  return Object.fromEntries(Object.entries(feeds).map(([key, feed]) => [key, tensorOf(feed)]));
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

export function floats(tensor: Tensor): Float32Array {
  return tensor.data as Float32Array;
}

export function float(data: Float32Array, shape: readonly number[]): Tensor {
  return new Tensor('float32', data, shape);
}

export function bytes(data: Uint8Array, shape: readonly number[]): Tensor {
  return new Tensor('uint8', data, shape);
}

export function vector(data: Float32Array): Tensor {
  return float(data, [data.length]);
}

export function longs(values: ArrayLike<number>, shape: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), shape);
}
