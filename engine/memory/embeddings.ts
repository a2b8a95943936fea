/**
 * Rows of the token table, read from disk by the row: a sweep needs as many as it has tokens, of a table that may be the
 * model's largest tensor.
 *
 * They pass through one buffer, as many at a time as it holds.
 */
import type { LayerWeights } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import type { Store } from '../model/store-read.js';
import { BLOCK_BYTES } from './aligned-buffer.js';
import { gatherRows, type PackedMatrix, type PackedType, packedBytes, packedRowBytes } from './packed.js';
import { GROUP_SIZE } from './quantize.js';

/** A hundred rows and more at once: nothing is computed while they are read. */
const MIN_BUFFER_BYTES = 512 * 1024;

/** Of the buffer: rows are read with their group, where they have one. */
export function embeddingBufferBytes({ embeddingSize }: ModelConfig, type: PackedType): number {
  const rows = type === 'int8' || type === 'int4' ? GROUP_SIZE : 1;
  // Values, scales and minima each begin and end within a block.
  const one = rows * packedRowBytes(type, embeddingSize) + 3 * 2 * BLOCK_BYTES;
  return Math.max(MIN_BUFFER_BYTES, Math.ceil(one / BLOCK_BYTES) * BLOCK_BYTES);
}

/**
 * @param buffer `embeddingBufferBytes` of the store's memory
 * @param resident the first rows of the same table in memory, where a tied head keeps them
 * @param onRead told the bytes of the rows that came from disk
 * @returns gives (ids, embeddingSize), each distinct row, or group of rows, read once
 */
export function embeddingReader(
  store: Store,
  buffer: Uint8Array,
  resident: PackedMatrix | undefined,
  onRead?: (bytes: number) => void,
): (ids: Int32Array) => Promise<Float32Array> {
  const width = store.config.embeddingSize;
  const table = store.tensor(0, 'tokens');
  const residentRows = resident?.shape[0] ?? 0;
  const grouped = table.type === 'int8' || table.type === 'int4';

  /** The rows that are read for one id. */
  function rangeOf(id: number): { readonly first: number; readonly end: number } {
    if (!grouped) return { first: id, end: id + 1 };
    const first = Math.floor(id / GROUP_SIZE) * GROUP_SIZE;
    return { first, end: Math.min(table.shape[0]!, first + GROUP_SIZE) };
  }

  return async (ids) => {
    const rows = new Map<number, Float32Array>();
    /** Ids by the first row of what is read for them. */
    const missing = new Map<number, number[]>();
    for (const id of new Set(ids)) {
      if (id < residentRows) rows.set(id, gatherRows(resident!, Int32Array.of(id)));
      else missing.set(rangeOf(id).first, [...(missing.get(rangeOf(id).first) ?? []), id]);
    }
    for (const left = [...missing.keys()]; left.length > 0; ) {
      const reads: Promise<void>[] = [];
      for (let used = 0; left.length > 0; left.shift()) {
        const { first, end } = rangeOf(left[0]!);
        const room = store.roomFor(table, first, end);
        if (used + room > buffer.length) break;
        const into = buffer.subarray(used, used + room);
        used += room;
        reads.push(
          store.readRows(table, first, end, into, true).then((matrix) => {
            onRead?.(packedBytes(matrix));
            for (const id of missing.get(first)!) rows.set(id, gatherRows(matrix, Int32Array.of(id - first)));
          }),
        );
      }
      // All settle, so that none fills the buffer after another's failure.
      for (const outcome of await Promise.allSettled(reads)) if (outcome.status === 'rejected') throw outcome.reason;
    }
    const gathered = new Float32Array(ids.length * width);
    ids.forEach((id, row) => {
      gathered.set(rows.get(id)!, row * width);
    });
    return gathered;
  };
}

/** The rows of a tied head that are in memory: they are the table's first. */
export function tiedRows(config: ModelConfig, layers: readonly LayerWeights[]): PackedMatrix | undefined {
  return config.tiedEmbeddings ? layers[config.numLayers + 1]!.tokens : undefined;
}
