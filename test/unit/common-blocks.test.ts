import { describe, expect, it } from 'vitest';
import { type SlotRun, slotRuns } from '../../engine/schedule/common-blocks.js';

describe('slots that begin alike', () => {
  it.each<[string, number[], [number, number], [number, number, number][]]>([
    ['none', [0, 0, 0], [0, 4], [[0, 4, 0]]],
    ['nothing known', [], [0, 3], [[0, 3, 0]]],
    ['all', [5, 3, 4], [0, 4], [[0, 4, 3]]],
    ['too few slots', [9, 9], [0, 3], [[0, 3, 0]]],
    ['too few blocks', [1, 1, 1, 1], [0, 5], [[0, 5, 0]]],
    [
      'two kinds, and some between',
      [2, 2, 2, 0, 0, 7, 7, 7],
      [0, 9],
      [
        [0, 4, 2],
        [4, 5, 0],
        [5, 9, 7],
      ],
    ],
    ['those of a group only', [4, 4, 4, 4, 4, 4], [2, 7], [[2, 7, 4]]],
    [
      'none at the end',
      [3, 3, 3, 0, 1],
      [0, 6],
      [
        [0, 4, 3],
        [4, 6, 0],
      ],
    ],
  ])('%s', (_, inCommon, [first, end], expected) => {
    const runs = expected.map(([from, to, common]): SlotRun => ({ first: from, end: to, common }));
    expect(slotRuns(inCommon, first, end)).toEqual(runs);
  });
});
