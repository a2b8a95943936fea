/** Rows of keys and values that lie in several places: in the cell that is computed, and in beginnings that are kept. */
import type { Projection } from '../backends/backend.js';
import type { Scratch } from '../memory/scratch.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';

/** Keys and values of some positions, on every layer. */
export interface KeptRows {
  /** (rows, numKvHeads * headDim) */
  keys(layer: number): Float32Array;
  values(layer: number): Float32Array;
}

/** Rows [start, end) of the cell, or of what is kept. */
export interface RowRange {
  readonly kept?: KeptRows;
  readonly start: number;
  readonly end: number;
}

/** Rows [from, to) of ranges, counted through all of them. */
export function rowsBetween(ranges: readonly RowRange[], from: number, to: number): RowRange[] {
  const taken: RowRange[] = [];
  let passed = 0;
  for (const range of ranges) {
    const [first, last] = [Math.max(from, passed), Math.min(to, passed + range.end - range.start)];
    if (first < last) taken.push({ ...range, start: range.start + first - passed, end: range.start + last - passed });
    passed += range.end - range.start;
  }
  return taken;
}

/** One layer's rows, as attention reads them, wherever they lie. */
export class RowSources {
  private readonly widened = new Map<KeptRows, Projection>();

  constructor(
    private readonly config: ModelConfig,
    private readonly layer: number,
    private readonly cell: Projection,
    private readonly scratch: Scratch,
  ) {}

  /** What the range counts its rows in. Of kept rows there are no queries: what stands in their place is not looked at. */
  of({ kept }: RowRange): Projection {
    if (!kept) return this.cell;
    const known = this.widened.get(kept) ?? this.widen(kept);
    this.widened.set(kept, known);
    return known;
  }

  /** Ranges, one after the other; one range needs no copy. */
  join(ranges: readonly RowRange[]): Projection {
    const [width, valueWidth] = [queryKeySize(this.config), valueSize(this.config)];
    const parts = ranges.map((range) => {
      const { queryKey, value } = this.of(range);
      const { start, end } = range;
      return {
        queryKey: queryKey.subarray(start * width, end * width),
        value: value.subarray(start * valueWidth, end * valueWidth),
      };
    });
    if (parts.length === 1) return parts[0]!;
    const queryKey = parts.map((part) => part.queryKey);
    const value = parts.map((part) => part.value);
    return { queryKey: this.concatenated('keys', queryKey), value: this.concatenated('values', value) };
  }

  private widen(kept: KeptRows): Projection {
    const [width, keyWidth] = [queryKeySize(this.config), valueSize(this.config)];
    const keys = kept.keys(this.layer);
    const rows = keys.length / keyWidth;
    const queryKey = this.scratch.take(`kept ${this.widened.size}`, rows * width);
    for (let row = 0; row < rows; row++) {
      queryKey.set(keys.subarray(row * keyWidth, (row + 1) * keyWidth), (row + 1) * width - keyWidth);
    }
    return { queryKey, value: kept.values(this.layer) };
  }

  private concatenated(name: string, parts: readonly Float32Array[]): Float32Array {
    const joined = this.scratch.take(
      name,
      parts.reduce((sum, { length }) => sum + length, 0),
    );
    let offset = 0;
    for (const part of parts) {
      joined.set(part, offset);
      offset += part.length;
    }
    return joined;
  }
}
