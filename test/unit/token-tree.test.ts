import { describe, expect, it } from 'vitest';
import { MASKED } from '../../engine/backends/backend.js';
import { causalMask, tokenTree, treeMask } from '../../engine/schedule/token-tree.js';

describe('tokenTree', () => {
  const context = [5, 6];
  const tree = tokenTree([
    { context, continuation: [7] },
    { context, continuation: [8, 9] },
    { context, continuation: [8, 10, 11] },
  ]);

  it('computes the context once, shared beginnings once, and no row for a last token', () => {
    expect([...tree.tokens]).toEqual([5, 6, 8, 10]);
    expect([...tree.positions]).toEqual([0, 1, 2, 3]);
    expect([...tree.parents]).toEqual([-1, 0, 1, 2]);
  });

  it('scores each token at the row before it', () => {
    expect(tree.options).toEqual([
      [{ row: 1, token: 7 }],
      [
        { row: 1, token: 8 },
        { row: 2, token: 9 },
      ],
      [
        { row: 1, token: 8 },
        { row: 2, token: 10 },
        { row: 3, token: 11 },
      ],
    ]);
  });

  it('keeps contexts apart from the token where they differ', () => {
    const { tokens, parents } = tokenTree([
      { context: [1, 2], continuation: [9, 9] },
      { context: [1, 3], continuation: [9, 9] },
    ]);
    expect([...tokens]).toEqual([1, 2, 9, 3, 9]);
    expect([...parents]).toEqual([-1, 0, 1, 0, 3]);
  });

  it('lets a row see its ancestors and itself, not its cousins', () => {
    const mask = treeMask(Int32Array.of(-1, 0, 0, 2));
    const open = Array.from({ length: 4 }, (_, row) => [0, 1, 2, 3].filter((seen) => mask[row * 4 + seen] === 0));
    expect(open).toEqual([[0], [0, 1], [0, 2], [0, 2, 3]]);
  });
});

describe('a window', () => {
  const M = Math.fround(MASKED);

  it('of 2 lets a row of a sequence see the one before it and itself', () => {
    expect([...causalMask(1, 2, 2)]).toEqual([0, 0, M, M, 0, 0]);
  });

  it('of 2 lets a row of a tree see its parent and itself', () => {
    const mask = treeMask(Int32Array.of(-1, 0, 0, 2), 2);
    expect([...mask.subarray(12)]).toEqual([M, M, 0, 0]);
    expect([...mask.subarray(8, 12)]).toEqual([0, M, 0, M]);
  });
});

describe('causalMask', () => {
  it('lets row i of a tile see all before the tile and the tile up to itself', () => {
    expect([...causalMask(1, 2)]).toEqual([0, 0, Math.fround(MASKED), 0, 0, 0]);
  });
});
