/** A store as a `WeightSource`: its own tensors taken apart again, as float32. */
import { EngineError } from '../errors.js';
import { widen } from '../memory/packed.js';
import { GROUP_SIZE } from '../memory/quantize.js';
import { isGrouped, rowValues } from './store.js';
import type { StoreTensor } from './store-header.js';
import type { OpenStoreOptions, Store } from './store-read.js';
import { openStore } from './store-read.js';
import type { WeightSource } from './weights.js';

/** @throws as `openStore`. */
export async function openStoreSource(directory: string, options: OpenStoreOptions = {}): Promise<WeightSource> {
  return storeSource(await openStore(directory, options));
}

/** Closing it closes the store. */
export function storeSource(store: Store): WeightSource {
  const parts = partsOf(store);
  const find = (name: string): Part => {
    const part = parts.get(name);
    if (part !== undefined) return part;
    throw new EngineError('BAD_WEIGHTS', `${store.directory}: this model has no tensor ${name}`, {
      path: store.directory,
      tensor: name,
    });
  };
  return {
    config: store.config,
    identity: store.identity,
    names: [...parts.keys()],
    shape: (name) => [find(name).rows, ...find(name).tensor.shape.slice(1)],
    storedType: (name) => find(name).tensor.type,
    read: async (name, rowStart = 0, rowEnd, into) => {
      const { tensor, firstRow, rows } = find(name);
      const end = rowEnd ?? rows;
      if (!(rowStart >= 0 && rowStart <= end && end <= rows)) {
        throw new RangeError(`${name}: rows ${rowStart} to ${end} of ${rows}`);
      }
      const values = (end - rowStart) * rowValues(tensor.shape);
      const target = into ?? new Float32Array(values);
      if (target.length < values) {
        throw new RangeError(`${name}: needed room for ${values} values, found ${target.length}`);
      }
      await readWidened(store, tensor, firstRow + rowStart, firstRow + end, target);
      return target;
    },
    close: () => store.close(),
  };
}

/** Where a weight lies in the tensor that it was joined into. */
interface Part {
  readonly tensor: StoreTensor;
  readonly firstRow: number;
  readonly rows: number;
}

/** Values read at a time. */
const CHUNK_VALUES = 1024 * 1024;

function partsOf(store: Store): ReadonlyMap<string, Part> {
  const parts = new Map<string, Part>();
  for (const tensor of store.tensors) {
    if (tensor.sharedWith !== undefined) continue;
    let firstRow = 0;
    for (const { name, rows } of tensor.sources) {
      parts.set(name, { tensor, firstRow, rows });
      firstRow += rows;
    }
  }
  return parts;
}

async function readWidened(store: Store, tensor: StoreTensor, rowStart: number, rowEnd: number, into: Float32Array) {
  if (rowStart === rowEnd) return;
  const columns = rowValues(tensor.shape);
  const unit = isGrouped(tensor.type) ? GROUP_SIZE : 1;
  const chunkRows = Math.max(1, Math.floor(CHUNK_VALUES / columns / unit)) * unit;
  const first = Math.floor(rowStart / unit) * unit;
  const chunkEnd = (start: number) => Math.min(rowEnd, start + chunkRows);
  // Chunks begin at other places in their blocks, so any may need a block more than the first.
  const starts: number[] = [];
  for (let start = first; start < rowEnd; start += chunkRows) starts.push(start);
  const buffer = store.allocate(Math.max(...starts.map((start) => store.roomFor(tensor, start, chunkEnd(start)))));
  for (const start of starts) {
    const values = widen(await store.readRows(tensor, start, chunkEnd(start), buffer));
    const wanted = Math.max(start, rowStart);
    into.set(values.subarray((wanted - start) * columns), (wanted - rowStart) * columns);
  }
}
