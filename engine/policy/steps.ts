/**
 * Where the seconds of a run go, step by step, as a plan expects it and as the engine's trace found it; and what many such
 * pairs say of a machine's profile.
 */
import type { TraceTotals } from '../trace.js';
import type { Refinement } from './hardware.js';

/** Seconds. They do not add up to all of it: some time is outside the kernels. */
export interface StepSeconds {
  /** Everything that is computed but attention: products, norms, the vocabulary. */
  readonly products: number;
  /** Of prompts, and over the cache. */
  readonly attention: number;
  /** For weights and the KV cache to arrive or to be gone. */
  readonly waiting: number;
  readonly all: number;
}

/** One run, as it was expected without refinement, and as it was. */
export interface StepComparison {
  readonly predicted: StepSeconds;
  readonly measured: StepSeconds;
}

export const stepNames = ['products', 'attention', 'waiting', 'all'] as const satisfies (keyof StepSeconds)[];

/** @param totals of one run alone. @param seconds by the clock */
export function measuredSteps({ seconds: steps, waitSeconds }: TraceTotals, seconds: number): StepSeconds {
  const { weights, kvRead, kvWrite, activations } = waitSeconds;
  return {
    products: steps.embed + steps.project + steps.finish + steps.head - weights,
    attention: steps.attend - kvRead,
    waiting: weights + kvRead + kvWrite + activations,
    all: seconds,
  };
}

/** What one run after another took. */
export function addSteps(a: StepSeconds, b: StepSeconds): StepSeconds {
  return {
    products: a.products + b.products,
    attention: a.attention + b.attention,
    waiting: a.waiting + b.waiting,
    all: a.all + b.all,
  };
}

/** Factors beyond which a measurement is taken for a mistake rather than for the machine. */
const LEAST_FACTOR = 0.5;
const MOST_FACTOR = 2;
/** Of the time, from which on a run was bound by what it read and wrote. */
const BOUND_SHARE = 0.5;

/**
 * How measured runs departed from the predictions, weighted by their time: arithmetic in all of them, moving in those that
 * mostly wait.
 */
export function refinementOf(runs: readonly StepComparison[], date: Date): Refinement {
  const ratio = (of: (steps: StepSeconds) => number, among: readonly StepComparison[]) => {
    const total = (side: keyof StepComparison) => among.reduce((sum, run) => sum + of(run[side]), 0);
    const [measured, predicted] = [total('measured'), total('predicted')];
    return predicted > 0 ? Math.min(MOST_FACTOR, Math.max(LEAST_FACTOR, measured / predicted)) : 1;
  };
  const bound = runs.filter(({ predicted: { waiting, all } }) => waiting > BOUND_SHARE * all);
  return {
    computeFactor: ratio(({ products, attention }) => products + attention, runs),
    ioFactor: ratio(({ all }) => all, bound),
    runs: runs.length,
    date: date.toISOString(),
  };
}
