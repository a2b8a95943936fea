/**
 * Which experts each row uses, and rows put together by expert: no row is computed with an expert that it did not choose.
 *
 * Source: Switch Transformers §2.1 and Mixtral §2.1: a softmax over all experts, of which the largest few count.
 */
import type { Experts } from '../model/config.js';

/** The rows that use one expert, ascending, and the share that it has in each. */
export interface ExpertRows {
  readonly expert: number;
  readonly rows: Int32Array;
  readonly shares: Float32Array;
}

/**
 * @param logits (rows, experts.count)
 * @returns the experts that some row uses, ascending. Among equal logits the lower expert is chosen.
 */
export function routeRows(logits: Float32Array, { count, perToken, renormalised }: Experts): ExpertRows[] {
  const chosen = Array.from({ length: count }, () => ({ rows: [] as number[], shares: [] as number[] }));
  const numRows = logits.length / count;
  for (let row = 0; row < numRows; row++) {
    const own = logits.subarray(row * count, (row + 1) * count);
    const ranked = Array.from(own.keys()).sort((a, b) => own[b]! - own[a]! || a - b);
    const max = own[ranked[0]!]!;
    const exponentials = ranked.map((expert) => Math.exp(own[expert]! - max));
    const counted = renormalised ? exponentials.slice(0, perToken) : exponentials;
    const sum = counted.reduce((total, value) => total + value, 0);
    ranked.slice(0, perToken).forEach((expert, i) => {
      chosen[expert]!.rows.push(row);
      chosen[expert]!.shares.push(exponentials[i]! / sum);
    });
  }
  return chosen.flatMap(({ rows, shares }, expert) =>
    rows.length > 0 ? [{ expert, rows: Int32Array.from(rows), shares: Float32Array.from(shares) }] : [],
  );
}

/** These rows of (rows, width), one after the other. */
export function takeRows(from: Float32Array, width: number, rows: Int32Array): Float32Array {
  const taken = new Float32Array(rows.length * width);
  rows.forEach((row, i) => {
    taken.set(from.subarray(row * width, (row + 1) * width), i * width);
  });
  return taken;
}

/** Adds each of `values`, times its share, to its row of `into`. */
export function addShares(into: Float32Array, width: number, { rows, shares }: ExpertRows, values: Float32Array): void {
  rows.forEach((row, i) => {
    const share = shares[i]!;
    for (let column = 0; column < width; column++) {
      into[row * width + column]! += share * values[i * width + column]!;
    }
  });
}

/** Multiplies each row of (rows, width) by the sigmoid of its logit, in place. */
export function scaleBySigmoid(values: Float32Array, width: number, logits: Float32Array): void {
  logits.forEach((logit, row) => {
    const share = 1 / (1 + Math.exp(-logit));
    for (let column = 0; column < width; column++) values[row * width + column]! *= share;
  });
}
