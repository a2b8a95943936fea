/**
 * Beginnings that newcomers of one sweep have in common: an instruction, examples, a question asked in several ways.
 *
 * Their rows are computed once. Keys and values of a row depend on the tokens before it alone, so whoever begins with the
 * same tokens attends to those rows as to its own; a prefix may itself lie in rows of several newcomers.
 */
import type { Sequence } from '../sequence.js';

/** Rows [start, end) of a cell. */
export interface RowRange {
  readonly start: number;
  readonly end: number;
}

/** The rows that hold a newcomer's first positions, in order; together they are `length` rows. */
export interface SharedPrefix {
  readonly ranges: readonly RowRange[];
  readonly length: number;
}

export const NO_PREFIX: SharedPrefix = { ranges: [], length: 0 };

/** Fewer are computed sooner than put together. */
const LEAST_SHARED = 16;
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

  /** The longest beginning that a newcomer can take from those who entered before it. */
  find(sequence: Sequence): SharedPrefix {
    const tokens = chainOf(sequence);
    const most = mostShared(sequence);
    let best = NO_PREFIX;
    for (const { tokens: others, ranges } of this.known) {
      const length = Math.min(most, commonLength(tokens, others));
      if (length >= LEAST_SHARED && length > best.length) best = { ranges: firstRows(ranges, length), length };
    }
    return best;
  }

  /** @param start the first of its own rows */
  add(sequence: Sequence, prefix: SharedPrefix, start: number): void {
    const tokens = chainOf(sequence);
    const own = { start, end: start + tokens.length - prefix.length };
    this.known.push({ tokens, ranges: [...prefix.ranges, own] });
    if (this.known.length > MOST_COMPARED) this.known.splice(1, 1);
  }
}

/** Tokens whose rows follow one another: a prompt, or a tree before its options part. */
export function chainOf(sequence: Sequence): ArrayLike<number> {
  if (sequence.kind === 'generate') return sequence.prompt;
  const { tokens, parents } = sequence.tree;
  const branch = parents.findIndex((parent, row) => parent !== row - 1);
  return branch < 0 ? tokens : tokens.subarray(0, branch);
}

/** Rows whose logits are wanted are a newcomer's own. */
function mostShared(sequence: Sequence): number {
  if (sequence.kind === 'generate') {
    return sequence.request.promptLogprobs ? 0 : sequence.prompt.length - LEAST_OWN;
  }
  const scored = sequence.tree.options.flat().map(({ row }) => row);
  return Math.min(sequence.tree.tokens.length - LEAST_OWN, ...scored);
}

function commonLength(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

function firstRows(ranges: readonly RowRange[], count: number): RowRange[] {
  const taken: RowRange[] = [];
  let left = count;
  for (const { start, end } of ranges) {
    if (left === 0) break;
    const rows = Math.min(left, end - start);
    taken.push({ start, end: start + rows });
    left -= rows;
  }
  return taken;
}
