/**
 * Neighbouring slots whose sequences begin alike: attention over the blocks that they have in common is one product for all
 * of them.
 */
import { KV_BLOCK_TOKENS } from '../backends/backend.js';
import type { GenerateSequence } from '../sequence.js';
import { commonLength } from './shared-prefix.js';

/** Slots [first, end), of which each begins with the same `common` blocks; 0 where they are attended to one by one. */
export interface SlotRun {
  readonly first: number;
  readonly end: number;
  readonly common: number;
}

/** Fewer slots, or blocks, gain less than a call of their own costs. */
const LEAST_SLOTS = 4;
const LEAST_BLOCKS = 2;

/** Whole blocks that each sequence's prompt has in common with the next one's. */
export function blocksInCommon(sequences: readonly GenerateSequence[]): number[] {
  return sequences.slice(1).map(({ prompt }, i) => {
    return Math.floor(commonLength(sequences[i]!.prompt, prompt) / KV_BLOCK_TOKENS);
  });
}

/**
 * All slots [first, end) in runs, in their order.
 *
 * @param inCommon of `blocksInCommon`
 */
export function slotRuns(inCommon: readonly number[], first: number, end: number): SlotRun[] {
  const runs: SlotRun[] = [];
  for (let start = first; start < end; ) {
    let [next, common] = [start + 1, Number.POSITIVE_INFINITY];
    while (next < end && (inCommon[next - 1] ?? 0) >= LEAST_BLOCKS) common = Math.min(common, inCommon[next++ - 1]!);
    const last = runs.at(-1);
    const shares = next - start >= LEAST_SLOTS;
    // What shares too little joins what is before it.
    if (!shares && last?.common === 0) runs[runs.length - 1] = { ...last, end: next };
    else runs.push({ first: start, end: next, common: shares ? common : 0 });
    start = next;
  }
  return runs;
}
