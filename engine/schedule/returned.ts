/**
 * Attention of tokens that were generated before and are computed again, because their keys and values were not kept.
 *
 * Everything else of such a row is computed as a prompt's is, many rows in one product. Its attention is computed as it
 * was when the token was new, over the cache: in another order the sums would round differently, and an answer must not
 * tell whether its run was interrupted.
 */
import type { Backend, Projection } from '../backends/backend.js';
import type { KvLayer } from '../memory/kv-cache.js';
import { lengthMask, sliceBlock, slotValues } from '../memory/kv-layout.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize } from '../model/layers.js';

/** Rows [start, end) of the cell are a sequence's positions from `position` on. */
export interface GeneratedRows {
  readonly slot: number;
  readonly start: number;
  readonly end: number;
  readonly position: number;
}

export interface GeneratedOptions {
  /** Receives (rows, numHeads * headDim), from its row `firstRow`. */
  readonly into: Float32Array;
  readonly firstRow: number;
  /** Positions that one sees at most on this layer, its own included. */
  readonly window: number | undefined;
}

/**
 * @param sequences in the order of their slots; all their keys and values are in the cache
 */
export async function attendGenerated(
  backend: Backend,
  config: ModelConfig,
  cached: KvLayer,
  sequences: readonly GeneratedRows[],
  { queryKey }: Projection,
  { into, firstRow, window }: GeneratedOptions,
): Promise<void> {
  const [width, queryWidth] = [config.numHeads * config.headDim, queryKeySize(config)];
  const mostRows = Math.max(0, ...sequences.map(({ start, end }) => end - start));
  for (let step = 0; step < mostRows; step++) {
    const taken = sequences.filter(({ start, end }) => start + step < end);
    for (const run of neighbours(taken)) {
      const lengths = run.map(({ position }) => position + step + 1);
      const mask = lengthMask(lengths, window);
      const [first, end] = [run[0]!.slot, run.at(-1)!.slot + 1];
      const maskWidth = mask.length / run.length;
      for (const group of cached.groups(end, Math.max(...lengths))) {
        const [from, to] = [Math.max(first, group.firstSlot), Math.min(end, group.endSlot)];
        if (from >= to) continue;
        const rows = run.slice(from - first, to - first).map(({ start }) => start + step);
        const blocks = group.blocks.map((block) =>
          sliceBlock(block, from - group.firstSlot, to - group.firstSlot, slotValues(config)),
        );
        const queries = gather(queryKey, queryWidth, rows);
        const ownMask = mask.subarray((from - first) * maskWidth, (to - first) * maskWidth);
        const attended = await backend.attendCache(queries, blocks, rows.length, ownMask);
        rows.forEach((row, i) => {
          into.set(attended.subarray(i * width, (i + 1) * width), (firstRow + row) * width);
        });
      }
    }
  }
}

/** Sequences of adjacent slots, which one call can take together. */
function neighbours(sequences: readonly GeneratedRows[]): GeneratedRows[][] {
  const runs: GeneratedRows[][] = [];
  for (const sequence of sequences) {
    const last = runs.at(-1);
    if (last?.at(-1)?.slot === sequence.slot - 1) last.push(sequence);
    else runs.push([sequence]);
  }
  return runs;
}

function gather(data: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const gathered = new Float32Array(rows.length * width);
  rows.forEach((row, i) => {
    gathered.set(data.subarray(row * width, (row + 1) * width), i * width);
  });
  return gathered;
}
