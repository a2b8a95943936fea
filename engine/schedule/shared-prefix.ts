/**
 * Beginnings that newcomers of one sweep have in common: an instruction, examples, a question asked in several ways.
 *
 * Their rows are computed once. Keys and values of a row depend on the tokens before it alone, so whoever begins with the
 * same tokens attends to those rows as to its own; a prefix may itself lie in rows of several newcomers, and in rows that
 * are kept from earlier sweeps (`prefix-store.ts`).
 */
import type { Sequence } from '../sequence.js';
import { type RowRange, rowsBetween } from './row-ranges.js';
import { ATTENTION_TILE } from './token-tree.js';

/** The rows that hold a newcomer's first positions, in order; together they are `length` rows. */
export interface SharedPrefix {
  readonly ranges: readonly RowRange[];
  readonly length: number;
}

export const NO_PREFIX: SharedPrefix = { ranges: [], length: 0 };

/** Fewer are computed sooner than put together. */
export const LEAST_SHARED = 16;
/** Newcomers that one is compared with: the latest, beside the first. */
const MOST_COMPARED = 32;
/** Rows that are a newcomer's own at least: products of a lone row round otherwise. */
const LEAST_OWN = 2;

interface Known {
  readonly tokens: ArrayLike<number>;
  /** Of its first positions, those of others first. */
  readonly ranges: readonly RowRange[];
}

/** The newcomers of one sweep, in the order in which they enter. */
export class PrefixIndex {
  private readonly known: Known[] = [];

  /**
   * The longest beginning that a newcomer can take from those who entered before it, or from what is kept.
   *
   * @param kept rows that hold its first positions, from earlier sweeps
   */
  find(sequence: Sequence, kept: readonly RowRange[]): SharedPrefix {
    const tokens = chainOf(sequence);
    const most = mostShared(sequence);
    let best = prefixOf(
      kept,
      kept.reduce((sum, { start, end }) => sum + end - start, 0),
    );
    for (const { tokens: others, ranges } of this.known) {
      const length = Math.min(most, commonLength(tokens, others));
      if (length > best.length) best = prefixOf(ranges, length);
    }
    return best;
  }

  /**
   * @param start the first of its own rows
   * @returns the rows of all its first positions
   */
  add(sequence: Sequence, prefix: SharedPrefix, start: number): readonly RowRange[] {
    const tokens = chainOf(sequence);
    const own = { start, end: start + tokens.length - prefix.length };
    const ranges = [...prefix.ranges, own];
    this.known.push({ tokens, ranges });
    if (this.known.length > MOST_COMPARED) this.known.splice(1, 1);
    return ranges;
  }
}

function prefixOf(ranges: readonly RowRange[], length: number): SharedPrefix {
  // A tile of attention in which one row were left to compute would round otherwise.
  const used = length % ATTENTION_TILE === ATTENTION_TILE - 1 ? length - 1 : length;
  return used < LEAST_SHARED ? NO_PREFIX : { ranges: rowsBetween(ranges, 0, used), length: used };
}

/** Tokens whose rows follow one another: a prompt, or a tree before its options part. */
export function chainOf(sequence: Sequence): ArrayLike<number> {
  if (sequence.kind === 'generate') return sequence.prompt;
  const { tokens, parents } = sequence.tree;
  const branch = parents.findIndex((parent, row) => parent !== row - 1);
  return branch < 0 ? tokens : tokens.subarray(0, branch);
}

/** Rows whose logits are wanted are a newcomer's own. */
export function mostShared(sequence: Sequence): number {
  if (sequence.kind === 'generate') {
    return sequence.request.promptLogprobs ? 0 : sequence.prompt.length - LEAST_OWN;
  }
  const scored = sequence.tree.options.flat().map(({ row }) => row);
  return Math.min(sequence.tree.tokens.length - LEAST_OWN, ...scored);
}

export function commonLength(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
