/**
 * Rows in portions: large enough for the products' full speed, small enough for the caches, and never a lone one.
 *
 * Products of one row take another path through the kernels, with other rounding, so a lone row is computed twice over;
 * a row's result then does not depend on how many rows come with it.
 */
import type { Columns } from './backend.js';

export const MIN_ROWS = 2;

/** Rows [start, end) of a whole. */
export interface RowTile {
  readonly start: number;
  readonly end: number;
}

export function* rowTiles(rows: number, size: number): Generator<RowTile> {
  for (let start = 0; start < rows; start += size) yield { start, end: Math.min(rows, start + size) };
}

/** Rows that are computed for a tile. */
export function computedRows({ start, end }: RowTile): number {
  return Math.max(MIN_ROWS, end - start);
}

/** The tile's rows, `width` elements each, without a copy unless a lone row has to be doubled. */
export function takeTile<T extends Float32Array | Int32Array>(data: T, width: number, { start, end }: RowTile): T {
  const rows = data.subarray(start * width, end * width) as T;
  if (end - start >= MIN_ROWS) return rows;
  const doubled = new (data.constructor as new (size: number) => T)(MIN_ROWS * width);
  for (let row = 0; row < MIN_ROWS; row++) doubled.set(rows, row * width);
  return doubled;
}

/** Puts what was computed for a tile into its rows of the whole; a doubled row's copy is dropped. */
export function putTile<T extends Float32Array | Int32Array>(into: T, computed: T, width: number, tile: RowTile): void {
  into.set(computed.subarray(0, (tile.end - tile.start) * width), tile.start * width);
}

/** As `putTile`, rows of `count` elements into columns. */
export function putColumns(into: Columns, computed: Float32Array, count: number, { start, end }: RowTile): void {
  const { rows, width, first } = into;
  if (count === width) {
    putTile(rows, computed, width, { start, end });
    return;
  }
  for (let row = start; row < end; row++) {
    rows.set(computed.subarray((row - start) * count, (row - start + 1) * count), row * width + first);
  }
}
