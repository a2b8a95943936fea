/**
 * A context and its options as one tree of tokens: what they share is computed once.
 *
 * Each node is a row of the pass. It stands at its depth and sees its ancestors and itself, so one mask lets all options
 * share one pass over the context. A leaf's own token needs no row: nobody asks what follows it.
 */
import { MASKED } from '../backends/backend.js';

/** Query rows of one attention call of a prompt: bounds the mask, and spares the half above the diagonal. */
export const ATTENTION_TILE = 256;

export interface TokenTree {
  /** (rows) */
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  /** (rows) row of the token before; -1 for the first. Parents come before their children. */
  readonly parents: Int32Array;
  /** For each option: which row predicts each of its tokens. */
  readonly options: readonly (readonly ScoredToken[])[];
}

export interface ScoredToken {
  /** Row whose logits score the token. */
  readonly row: number;
  readonly token: number;
}

/** @param sequences for each option its context's ids and its own; contexts differ only where tokens merge. */
export function tokenTree(
  sequences: readonly { readonly context: readonly number[]; readonly continuation: readonly number[] }[],
): TokenTree {
  const tokens: number[] = [];
  const positions: number[] = [];
  const parents: number[] = [];
  const children = new Map<string, number>();
  const rowOf = (parent: number, token: number) => {
    const key = `${parent} ${token}`;
    const known = children.get(key);
    if (known !== undefined) return known;
    const row = tokens.length;
    tokens.push(token);
    positions.push(parent < 0 ? 0 : positions[parent]! + 1);
    parents.push(parent);
    children.set(key, row);
    return row;
  };
  const options = sequences.map(({ context, continuation }) => {
    let row = context.reduce(rowOf, -1);
    return continuation.map((token, i) => {
      const scored = { row, token };
      if (i + 1 < continuation.length) row = rowOf(row, token);
      return scored;
    });
  });
  const [asTokens, asPositions, asParents] = [tokens, positions, parents].map((list) => Int32Array.from(list));
  return { tokens: asTokens!, positions: asPositions!, parents: asParents!, options };
}

/**
 * (rows, rows): row i sees its ancestors and itself.
 *
 * @param window rows that one sees at most, itself included
 */
export function treeMask(parents: Int32Array, window = Number.POSITIVE_INFINITY): Float32Array {
  const rows = parents.length;
  const mask = new Float32Array(rows * rows).fill(MASKED);
  for (let row = 0; row < rows; row++) {
    for (let seen = row, left = window; seen >= 0 && left > 0; seen = parents[seen]!, left--)
      mask[row * rows + seen] = 0;
  }
  return mask;
}

/**
 * (rows, keys) of rows [start, start + rows) of a plain sequence: each sees those before it and itself.
 *
 * @param window rows that one sees at most, itself included
 */
export function causalMask(start: number, rows: number, window = Number.POSITIVE_INFINITY): Float32Array {
  const keys = start + rows;
  const mask = new Float32Array(rows * keys);
  for (let row = 0; row < rows; row++) {
    const end = start + row + 1;
    mask.fill(MASKED, row * keys, row * keys + Math.max(0, end - window));
    mask.fill(MASKED, row * keys + end, (row + 1) * keys);
  }
  return mask;
}
