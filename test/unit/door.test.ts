import { describe, expect, it } from 'vitest';
import { residentPolicy } from '../../engine/policy/policy.js';
import { openDoor } from '../../engine/schedule/door.js';
import type { Sequence } from '../../engine/sequence.js';

const sizes = { gpuBatchSize: 4, numGpuBatches: 1, schedule: 'continuous', overlap: true } as const;
const continuous = { ...residentPolicy(sizes), maxRows: 100 };

const generate = (promptRows: number, maxNewTokens: number) =>
  ({ kind: 'generate', prompt: { length: promptRows }, request: { maxNewTokens } }) as unknown as Sequence;

/** How many newcomers of `rows` rows a sweep admits that has `live` rows already. */
function admitted(admission: ReturnType<ReturnType<typeof openDoor>['open']>, rows: number, live: number): number {
  let count = 0;
  while (count < 50 && admission.admits(rows, live + count * rows)) count++;
  return count;
}

describe('a continuous door', () => {
  it.each([
    ['as many as the rows allow', 30, 4, 3],
    ['one that is larger than all rows, if it is first', 500, 4, 1],
    ['none beyond the rows of those who are in', 97, 4, 1],
  ])('lets in %s', (_, rows, live, expected) => {
    expect(admitted(openDoor(continuous, []).open(true), rows, live)).toBe(expected);
  });
});

describe('a door of blocks', () => {
  const block = { ...continuous, schedule: 'block' } as const;

  it('fills the block once, and opens again when nobody is left in it', () => {
    const door = openDoor(block, []);
    expect(admitted(door.open(false), 1, 0)).toBe(4);
    expect(admitted(door.open(true), 1, 4)).toBe(0);
    expect(admitted(door.open(true), 1, 1)).toBe(0);
    expect(admitted(door.open(false), 1, 0)).toBe(4);
  });

  it('lets the rest of a block in that did not fit into its first sweep', () => {
    const door = openDoor(block, []);
    expect(admitted(door.open(false), 40, 0)).toBe(2);
    expect(admitted(door.open(true), 40, 2)).toBe(2);
    expect(admitted(door.open(true), 40, 4)).toBe(0);
  });
});

describe('a paced door', () => {
  const paced = { ...continuous, gpuBatchSize: 8, paced: true, maxRows: 1000 };
  /** Prompts of 20 and 10 new tokens: eight slots that stay full take 16 prompt rows a sweep. */
  const queue = Array.from({ length: 40 }, () => generate(20, 10));

  it('lets as many prompt rows in as keep the slots full in the long run', () => {
    const door = openDoor(paced, queue);
    let newcomers = admitted(door.open(false), 20, 0);
    for (let sweep = 1; sweep < 100; sweep++) newcomers += admitted(door.open(true), 20, 8);
    expect(newcomers).toBeGreaterThanOrEqual(79);
    expect(newcomers).toBeLessThanOrEqual(82);
  });

  it('does not save up for more than one sweep while nobody comes', () => {
    const door = openDoor(paced, queue);
    for (let sweep = 0; sweep < 20; sweep++) door.open(true);
    expect(admitted(door.open(true), 20, 8)).toBe(2);
  });

  it('lets the next one in at once where nobody is computed, whatever came before', () => {
    const door = openDoor(paced, queue);
    expect(admitted(door.open(false), 900, 0)).toBe(1);
    expect(admitted(door.open(true), 20, 1)).toBe(0);
    expect(admitted(door.open(false), 20, 0)).toBe(1);
  });

  it('has no pace where contexts are scored, which take no slot', () => {
    const score = { kind: 'score' } as unknown as Sequence;
    expect(admitted(openDoor(paced, [...queue, score]).open(true), 20, 8)).toBe(paced.gpuBatchSize);
  });
});
