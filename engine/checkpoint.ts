/**
 * Checkpoints of a run, so that nothing is computed twice: every sequence's tokens, the state of its sampler and its KV
 * cache, and the answers that are finished, in a directory.
 *
 * A run that finds one goes on where it was written, with the answers that it would have given undisturbed. What is
 * damaged is found out by its sum: then the generation before serves, the tokens without their KV cache, or nothing.
 */
import { createHash } from 'node:crypto';
import {
  findGeneration,
  type Generation,
  kvName,
  type Marks,
  manifestName,
  stateName,
} from './checkpoint/generation.js';
import { KvLoad } from './checkpoint/kv-load.js';
import { DEFAULT_COST_SHARE } from './checkpoint/pace.js';
import { readProgress } from './checkpoint/progress-file.js';
import { CheckpointWriter } from './checkpoint/writer.js';
import type { RunMemory } from './memory/kv-tiers.js';
import type { ModelConfig } from './model/config.js';
import type { EngineRequest, EngineResult } from './requests.js';
import type { LoopCheckpoint } from './schedule/loop.js';
import { GenerateSequence, type Sequence } from './sequence.js';
import type { Trace } from './trace.js';

export interface CheckpointOptions {
  /** Exists, and is this run's own. If it goes away while the run is under way, another owner has it, and the run ends. */
  readonly directory: string;
  /** Larger than that of every earlier owner. */
  readonly fencingToken: number;
  /** Of the time that they may cost; Infinity writes one after every sweep. Default: 0.02. */
  readonly costShare?: number;
}

/** Where a run stands with its checkpoints. */
export interface CheckpointStatus {
  /** Complete ones of this run. */
  readonly written: number;
  /** Why none is written any more: the disk is full, say. */
  readonly problem?: string;
  /** Absent where nothing was there to go on with. */
  readonly recovery?: Recovery;
}

/** What was taken up from an earlier run of the same requests. */
export interface Recovery {
  /** Requests that were answered. */
  readonly finished: number;
  /** Sequences that go on in the middle. */
  readonly resumed: number;
  readonly total: number;
  /** Generated tokens of both. */
  readonly tokensKept: number;
  /** What the run before had computed after its last checkpoint, and is computed again. */
  readonly promptTokensAgain: number;
  readonly generatedTokensAgain: number;
  readonly sweepsAgain: number;
  /** The most sweeps that it could have lost. */
  readonly periodSweeps: number;
  /** Positions of resumed sequences whose keys and values were read back, and those computed anew from their tokens. */
  readonly positionsRead: number;
  readonly positionsRebuilt: number;
  /** What could not be used, and why. */
  readonly problems: readonly string[];
}

export interface Checkpoint {
  /** By place of the request. */
  readonly answered: ReadonlyMap<number, EngineResult>;
  /** What is left to compute; those that come back stand in front. */
  readonly sequences: readonly Sequence[];
  readonly loop: LoopCheckpoint;
  status(): CheckpointStatus;
  /** Waits for what is being written. */
  close(): Promise<void>;
}

export interface CheckpointParts {
  readonly requests: readonly EngineRequest[];
  /** In the order of the requests: sequences, or answers where there is nothing to compute. */
  readonly admitted: readonly (Sequence | EngineResult)[];
  readonly numerics: string;
  readonly model: string;
  readonly config: ModelConfig;
  readonly memory: RunMemory;
  readonly trace: Trace;
}

/** @throws the system's error where the directory cannot be read or written */
export async function openCheckpoint(options: CheckpointOptions, parts: CheckpointParts): Promise<Checkpoint> {
  const { directory, fencingToken, costShare = DEFAULT_COST_SHARE } = options;
  const { requests, admitted, numerics, model, config, memory, trace } = parts;
  const identity = { numerics, model, requests: sumOf(requests) };
  const { generation, problems, nextNumber } = findGeneration(directory, identity);
  const lost = lostMarks(generation?.manifest.marks, readProgress(directory));
  const isSequence = (one: Sequence | EngineResult | undefined): one is Sequence =>
    one !== undefined && 'accept' in one;
  const answered = new Map(generation?.state.results);
  const resumed = new Map<number, GenerateSequence>();
  for (const [index, saved] of generation?.state.sequences ?? []) {
    const sequence = admitted[index];
    if (!(sequence instanceof GenerateSequence)) continue;
    sequence.restore(saved);
    resumed.set(index, sequence);
  }
  const left = new Map<Sequence, number>(Array.from(resumed, ([index, sequence]) => [sequence, index]));
  admitted.forEach((one, index) => {
    if (isSequence(one) && !answered.has(index) && !resumed.has(index)) left.set(one, index);
  });
  const extents = new Map(generation?.state.kv.filter(([index]) => resumed.has(index)));
  const kv = new KvLoad({
    directory,
    config,
    tier: memory.tiers.cpu,
    extents,
    promptRowsPerSecond: generation?.manifest.promptRowsPerSecond ?? null,
  });
  const writer = new CheckpointWriter({
    directory,
    fencingToken,
    costShare,
    identity,
    config,
    tier: memory.tiers.cpu,
    sequences: left,
    answered,
    inherited: (index) => kv.extent(index),
    longest: longestOf(left.keys(), config),
    firstGeneration: nextNumber,
    previousFiles: generation ? filesOf(generation) : [],
    promptRowsPerSecond: () => promptRate(trace),
  });
  const indexOf = (sequence: Sequence) => left.get(sequence)!;
  const positions = sum(resumed.values(), ({ length }) => length - 1);
  const tokensKept =
    sum(resumed.values(), ({ tokens }) => tokens.length) +
    sum(answered.values(), (result) => (result.kind === 'generate' ? result.tokens.length : 0));
  return {
    answered,
    sequences: [...left.keys()],
    loop: {
      holds: (sequence) => kv.holds(indexOf(sequence)),
      load: (seat) => kv.load(indexOf(seat.sequence), seat),
      afterSweep: (seats, counts) => writer.afterSweep(seats, counts),
      giveUp: (seats) => writer.giveUp(seats),
    },
    status: () => ({
      written: writer.written,
      ...(writer.problem !== undefined && { problem: writer.problem }),
      ...((generation || lost || problems.length > 0) && {
        recovery: {
          finished: answered.size,
          resumed: resumed.size,
          total: requests.length,
          tokensKept,
          promptTokensAgain: lost?.promptTokens ?? 0,
          generatedTokensAgain: lost?.generatedTokens ?? 0,
          sweepsAgain: lost?.sweeps ?? 0,
          periodSweeps: generation?.manifest.periodSweeps ?? 0,
          positionsRead: kv.positions,
          positionsRebuilt: positions - kv.positions,
          problems: [...problems, ...kv.problems],
        },
      }),
    }),
    async close() {
      await kv.close();
      await writer.close();
    },
  };
}

/** What an attempt had done after a checkpoint: all that it did, if the checkpoint is of an earlier attempt. */
function lostMarks(kept: Marks | undefined, reached: Marks | undefined): Omit<Marks, 'attempt'> | undefined {
  if (!reached || reached.sweeps === 0) return undefined;
  if (kept?.attempt !== reached.attempt) return reached;
  return {
    sweeps: reached.sweeps - kept.sweeps,
    promptTokens: reached.promptTokens - kept.promptTokens,
    generatedTokens: reached.generatedTokens - kept.generatedTokens,
  };
}

/** Positions that the longest of them may come to. */
function longestOf(sequences: Iterable<Sequence>, { maxPositions }: ModelConfig): number {
  let longest = 0;
  for (const sequence of sequences) {
    if (sequence.kind === 'score') continue;
    const { prompt, request } = sequence;
    longest = Math.max(longest, Math.min(maxPositions, prompt.length + request.maxNewTokens));
  }
  return longest;
}

function filesOf({ manifest: { generation }, state }: Generation): string[] {
  const kvFiles = new Set(state.kv.map(([, { file }]) => kvName(file)));
  return [manifestName(generation), stateName(generation), ...kvFiles];
}

function promptRate(trace: Trace): number | null {
  const { promptRows, prefillSeconds } = trace.totals();
  return prefillSeconds > 0 ? promptRows / prefillSeconds : null;
}

function sumOf(requests: readonly EngineRequest[]): string {
  return createHash('sha256').update(JSON.stringify(requests)).digest('hex');
}

function sum<T>(values: Iterable<T>, of: (value: T) => number): number {
  let total = 0;
  for (const value of values) total += of(value);
  return total;
}
