/**
 * A benchmark's figures, FlexGen's own first, from what the engine counted and what the clock said.
 *
 * Prefill and decoding share sweeps, so the seconds of a run are divided between them by the rows of each sweep. Generation
 * throughput needs no such division: generated tokens over all of the run's seconds, prefill included.
 */
import { type Bound, boundOf, hiddenFraction, type MachineRates, neededRows, runFlops } from '../engine/bound.js';
import type { ModelConfig } from '../engine/model/config.js';
import type { Policy } from '../engine/policy/policy.js';
import { measuredSteps, type StepSeconds } from '../engine/policy/steps.js';
import type { EngineUsage, GenerateResult } from '../engine/requests.js';
import type { TraceTotals } from '../engine/trace.js';

/** One run over all requests. */
export interface BenchRun {
  /** By the clock, as the caller of the engine saw it. */
  readonly seconds: number;
  readonly totals: TraceTotals;
  readonly results: readonly GenerateResult[];
}

/** The contract of `bench --json`. */
export interface BenchFigures {
  readonly prefillSeconds: number;
  readonly decodeSeconds: number;
  readonly totalSeconds: number;
  /** Tokens a second. */
  readonly prefillThroughput: number;
  readonly decodeThroughput: number;
  readonly generationThroughput: number;
  readonly peakBytes: EngineUsage['peakBytes'];
  /** Of the process, and what it should stay below; null where no budget was given. */
  readonly peakResidentBytes: number;
  readonly residentLimitBytes: number | null;
  readonly bytesMoved: TraceTotals['bytesMoved'];
  readonly waitSeconds: TraceTotals['waitSeconds'];
  readonly hiddenIoFraction: number;
  readonly kernelSeconds: number;
  readonly steps: StepSeconds;
  /** Share of the time that was neither in the backend nor waiting. */
  readonly overheadFraction: number;
  readonly policy: Policy;
  readonly bound: Bound & { readonly generationThroughput: number };
  /** Sequences. */
  readonly rows: number;
  readonly sweeps: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Rows computed, padding included, and rows needed. */
  readonly tokens: { readonly padded: number; readonly actual: number };
  /** Of every repetition, in order; the figures are those of the median. */
  readonly runSeconds: readonly number[];
}

export interface Measured {
  readonly config: ModelConfig;
  readonly policy: Policy;
  readonly runs: readonly BenchRun[];
  readonly peakBytes: EngineUsage['peakBytes'];
  readonly peakResidentBytes: number;
  readonly hostMemoryBytes: number | undefined;
  readonly rates: MachineRates;
}

/** What a process may hold beside its budget: Node, the kernels' library, and the heap. */
const RESIDENT_ALLOWANCE_BYTES = 400 * 2 ** 20;

export function figuresOf(measured: Measured): BenchFigures {
  const { config, policy, runs, peakBytes, peakResidentBytes, hostMemoryBytes, rates } = measured;
  const { seconds, totals, results } = medianRun(runs);
  const lengths = results.map(({ promptTokens, tokens }) => ({ promptTokens, generatedTokens: tokens.length }));
  const promptTokens = sum(lengths.map((length) => length.promptTokens));
  const generatedTokens = sum(lengths.map((length) => length.generatedTokens));
  // The engine's sweeps take a little less than what its caller waits for.
  const prefillSeconds = seconds * (totals.prefillSeconds / (totals.prefillSeconds + totals.decodeSeconds));
  const decodeSeconds = seconds - prefillSeconds;
  const bound = boundOf(runFlops(config, lengths), sum(Object.values(totals.bytesMoved)), rates);
  const waitSeconds = sum(Object.values(totals.waitSeconds));
  return {
    prefillSeconds,
    decodeSeconds,
    totalSeconds: seconds,
    prefillThroughput: rate(promptTokens, prefillSeconds),
    // A prompt's own sweep gives its first token.
    decodeThroughput: rate(generatedTokens - results.length, decodeSeconds),
    generationThroughput: rate(generatedTokens, seconds),
    peakBytes,
    peakResidentBytes,
    residentLimitBytes: hostMemoryBytes === undefined ? null : hostMemoryBytes + RESIDENT_ALLOWANCE_BYTES,
    bytesMoved: totals.bytesMoved,
    waitSeconds: totals.waitSeconds,
    hiddenIoFraction: hiddenFraction(waitSeconds, bound.ioSeconds),
    kernelSeconds: totals.kernelSeconds,
    steps: measuredSteps(totals, seconds),
    overheadFraction: Math.max(0, 1 - (totals.kernelSeconds + waitSeconds) / seconds),
    policy,
    bound: { ...bound, generationThroughput: rate(generatedTokens, bound.seconds) },
    rows: results.length,
    sweeps: totals.sweeps,
    promptTokens,
    generatedTokens,
    tokens: { padded: totals.rows, actual: sum(lengths.map(neededRows)) },
    runSeconds: runs.map((run) => run.seconds),
  };
}

/** Of an even number, the faster one in the middle. */
function medianRun(runs: readonly BenchRun[]): BenchRun {
  return [...runs].sort((a, b) => a.seconds - b.seconds)[Math.floor((runs.length - 1) / 2)]!;
}

function rate(count: number, seconds: number): number {
  return seconds > 0 ? count / seconds : 0;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
