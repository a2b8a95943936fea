/**
 * When newcomers may enter a GPU batch.
 *
 * Continuous: as places fall free. Block (FlexGen §4.2): when the block before has ended. Paced: no more prompt rows in
 * a sweep than keep the slots filled in the long run, so that every sweep has arithmetic to hide its reads behind; left
 * to themselves, sequences that started together end together, and their decoding sweeps are all reading.
 */
import type { Policy } from '../policy/policy.js';
import type { Sequence } from '../sequence.js';

/** For one sweep. */
export interface Admission {
  /** Whether a newcomer of so many rows may join the rows that the sweep has already. */
  admits(rows: number, rowsSoFar: number): boolean;
}

export interface Door {
  /** @param anyLive whether any GPU batch holds a live sequence */
  open(anyLive: boolean): Admission;
}

/** @param queue what is to be computed, for the pace */
export function openDoor({ schedule, paced, gpuBatchSize, maxRows }: Policy, queue: readonly Sequence[]): Door {
  const rowsPerSweep = paced ? pace(gpuBatchSize, queue) : Number.POSITIVE_INFINITY;
  let credit = 0;
  let placesInBlock = gpuBatchSize;
  return {
    open(anyLive) {
      if (schedule === 'continuous' || !anyLive) placesInBlock = gpuBatchSize;
      // Nothing is hidden behind a sweep that nobody is in, so there the pace lets newcomers in at once.
      credit = anyLive ? Math.min(credit, rowsPerSweep) + rowsPerSweep : rowsPerSweep;
      let admitted = 0;
      return {
        admits(rows, rowsSoFar) {
          // A newcomer larger than the bound still enters, if it is the sweep's first.
          const fits = rowsSoFar + rows <= maxRows || admitted === 0;
          if (!fits || credit <= 0 || placesInBlock === 0) return false;
          credit -= rows;
          placesInBlock--;
          admitted++;
          return true;
        },
      };
    },
  };
}

/** Prompt rows that enter in a sweep when all slots stay taken: each slot's newcomer is followed by its new tokens. */
function pace(slots: number, queue: readonly Sequence[]): number {
  const generated = queue.filter((sequence) => sequence.kind === 'generate');
  const promptRows = generated.reduce((sum, { prompt }) => sum + prompt.length, 0);
  const newTokens = generated.reduce((sum, { request }) => sum + request.maxNewTokens, 0);
  return generated.length < queue.length ? Number.POSITIVE_INFINITY : Math.ceil((slots * promptRows) / newTokens);
}
