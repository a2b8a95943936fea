/**
 * Keys and values of beginnings that sequences yet to come have in common, kept between sweeps on the tier that computes.
 *
 * A beginning is kept when the first who has it enters and others still wait, as far as the policy gives room, and
 * given back when the last of them has entered.
 */
import type { Lease, Tier } from '../memory/tier.js';
import type { ModelConfig } from '../model/config.js';
import { valueSize } from '../model/layers.js';
import type { Sequence } from '../sequence.js';
import { type PrefixNode, PrefixTree } from './prefix-tree.js';
import { type KeptRows, type RowRange, type RowSources, rowsBetween } from './row-ranges.js';

/** Rows that a newcomer's sweep leaves behind. */
export interface KeepOrder {
  readonly node: PrefixNode;
  readonly rows: StoredRows;
  readonly ranges: readonly RowRange[];
}

export class PrefixStore {
  private readonly tree: PrefixTree;
  private readonly stored = new Map<PrefixNode, StoredRows>();
  /** Those whose rows are there: the others' are computed by the sweep under way. */
  private readonly ready = new Set<PrefixNode>();
  private leftBytes: number;

  /** @param bytes at most kept at a time, beside what anything else may take of the tier */
  constructor(
    private readonly config: ModelConfig,
    sequences: readonly Sequence[],
    private readonly tier: Tier,
    bytes: number,
  ) {
    this.tree = new PrefixTree(sequences);
    this.leftBytes = bytes;
  }

  /** What is kept of the sequence's first positions. */
  find(sequence: Sequence, most: number): readonly RowRange[] {
    const ranges: RowRange[] = [];
    for (const node of this.tree.path(sequence)) {
      if (!this.ready.has(node) || node.start >= most) break;
      ranges.push({ kept: this.stored.get(node)!, start: 0, end: Math.min(node.end, most) - node.start });
    }
    return ranges;
  }

  /** @param entered newcomers of a sweep, with the rows that hold their positions. @returns what to keep of them */
  enter(entered: readonly { readonly sequence: Sequence; readonly ranges: readonly RowRange[] }[]): KeepOrder[] {
    for (const { sequence } of entered) this.tree.enter(sequence);
    return entered.flatMap(({ sequence, ranges }) => {
      const orders: KeepOrder[] = [];
      for (const node of this.tree.path(sequence)) {
        if (this.stored.has(node)) continue;
        // Whatever lies behind is of no use without it.
        if (node.waiting === 0 || !this.makeRoom(node)) break;
        orders.push({ node, rows: this.stored.get(node)!, ranges: rowsBetween(ranges, node.start, node.end) });
      }
      return orders;
    });
  }

  /** It comes back with keys and values of its own. */
  leave(sequence: Sequence): void {
    this.tree.enter(sequence);
  }

  /** The sweep is done: its rows may be used, and what nobody waits for is given back. */
  settle(orders: readonly KeepOrder[]): void {
    for (const { node } of orders) this.ready.add(node);
    for (const node of this.stored.keys()) if (node.waiting === 0) this.giveBack(node);
  }

  close(): void {
    for (const node of this.stored.keys()) this.giveBack(node);
  }

  private makeRoom(node: PrefixNode): boolean {
    const rows = node.end - node.start;
    const bytes = StoredRows.bytes(this.config, rows);
    if (bytes > Math.min(this.leftBytes, this.tier.freeBytes)) return false;
    const lease = this.tier.reserve(bytes, `a beginning of ${rows} tokens that sequences share`);
    this.leftBytes -= bytes;
    this.stored.set(node, new StoredRows(this.config, rows, lease));
    return true;
  }

  private giveBack(node: PrefixNode): void {
    const { lease } = this.stored.get(node)!;
    this.leftBytes += lease.bytes;
    lease.release();
    this.stored.delete(node);
    this.ready.delete(node);
  }
}

/** In float32 whatever the form of the cache: prompts attend to rows as they were computed. */
class StoredRows implements KeptRows {
  /** By layer: keys of all rows, then their values. */
  private readonly layers: readonly Float32Array[];
  private readonly length: number;

  constructor(
    private readonly config: ModelConfig,
    rows: number,
    readonly lease: Lease,
  ) {
    this.length = rows * valueSize(config);
    this.layers = Array.from({ length: config.numLayers }, () => new Float32Array(2 * this.length));
  }

  static bytes(config: ModelConfig, rows: number): number {
    return 2 * rows * config.numLayers * valueSize(config) * Float32Array.BYTES_PER_ELEMENT;
  }

  keys(layer: number): Float32Array {
    return this.layers[layer]!.subarray(0, this.length);
  }

  values(layer: number): Float32Array {
    return this.layers[layer]!.subarray(this.length);
  }

  put(layer: number, sources: RowSources, ranges: readonly RowRange[]): void {
    const { queryKey, value } = sources.join(ranges);
    const keyWidth = valueSize(this.config);
    const width = (queryKey.length / value.length) * keyWidth;
    const keys = this.keys(layer);
    for (let row = 0; row * width < queryKey.length; row++) {
      keys.set(queryKey.subarray((row + 1) * width - keyWidth, (row + 1) * width), row * keyWidth);
    }
    this.values(layer).set(value);
  }
}
