/**
 * How often checkpoints are written: as often as a share of the time allows, going by what the last one cost.
 *
 * The interval is counted in sweeps, since work is lost by the sweep. A checkpoint begins an interval after the one before,
 * and the loop waits for it if it is not complete an interval later. So there is a bound to what a crash costs: the period.
 */

/** Of the time. */
export const DEFAULT_COST_SHARE = 0.02;

/** Taken for the cost of the first checkpoint: a run of less than a second is not worth one. */
const FIRST_COST_SECONDS = 0.02;

const SHORTEST_SWEEP_SECONDS = 1e-6;

export interface Pace {
  /** Whether one should begin after this sweep. @param seconds since the run began */
  due(sweep: number, seconds: number): boolean;
  began(sweep: number, seconds: number): void;
  /**
   * The one that began last has cost so much.
   *
   * @returns the period from now on: the most sweeps that a crash costs once it is complete
   */
  cost(seconds: number): number;
  /** It is on the disk; until then the interval before it holds. */
  complete(): void;
}

/** @param share of the time that checkpoints may cost; Infinity writes one after every sweep */
export function openPace(share: number): Pace {
  let interval: number | undefined;
  let next = 1;
  let last = { sweep: 0, seconds: 0 };
  let sweepSeconds = SHORTEST_SWEEP_SECONDS;
  const intervalFor = (cost: number) => Math.max(1, Math.ceil(cost / (share * sweepSeconds)));
  return {
    due(sweep, seconds) {
      if (interval === undefined) return seconds * share >= FIRST_COST_SECONDS;
      return sweep - last.sweep >= interval;
    },
    began(sweep, seconds) {
      sweepSeconds = Math.max(SHORTEST_SWEEP_SECONDS, (seconds - last.seconds) / Math.max(1, sweep - last.sweep));
      last = { sweep, seconds };
      interval ??= intervalFor(FIRST_COST_SECONDS);
    },
    cost(seconds) {
      next = intervalFor(seconds);
      // While this one was being written, the loop may have come as far as the old interval let it.
      return Math.max(next, interval ?? next) + next;
    },
    complete() {
      interval = next;
    },
  };
}
