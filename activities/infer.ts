/** The activity of a device: one shard of prompts in, one part of answers out. */

import { join } from 'node:path';
import { activityInfo, cancellationSignal } from '@temporalio/activity';
import { partIsValid, readPart, writePart } from '../datasets/output.js';
import type { AnswerRow, Ask, PromptRow } from '../datasets/rows.js';
import { readManifest, readShard } from '../datasets/shard.js';
import type { HardwareProfile } from '../engine/policy/hardware.js';
import type { Planning } from '../engine/policy/planned.js';
import type { StepComparison } from '../engine/policy/steps.js';
import type { Engine, EngineOptions, EngineProgress } from '../engine/requests.js';
import { totalsBetween } from '../engine/trace.js';
import { type Claim, claimShard, removeClaims } from './claim.js';
import type { DeviceActivities, ShardHeartbeat, ShardInput, ShardOutcome } from './contracts.js';
import { withDeviceTurn } from './device-turn.js';
import { openEnginePool } from './engine-pool.js';
import { compareSteps, type Expecting, expectationOf, keepSteps } from './expectation.js';
import { explainingFailures } from './failures.js';
import { withHeartbeat } from './heartbeat.js';
import { partPath } from './parts.js';
import { replaced } from './plan.js';
import { readPolicy } from './policy-file.js';
import { newsOf, notesOf, recoveredOf } from './recovery.js';
import { answersOf, requestOf } from './rows.js';
import { type RunFile, readRunFile } from './run-file.js';

export interface DeviceOptions {
  readonly openEngine: (options: EngineOptions) => Promise<Engine>;
  /** Held while a shard is computed: a file that all processes of the machine know. */
  readonly lockPath: string;
  /** Told what is taken up from earlier attempts, in a line. */
  readonly report?: ((line: string) => void) | undefined;
  /** This machine, where it is measured: policies are then searched for it. */
  readonly hardware?: () => HardwareProfile | undefined;
  /** Told what a shard took beside what was to be expected, where that is known. */
  readonly onCompared?: (comparison: StepComparison) => void;
}

export interface Device {
  readonly activities: DeviceActivities;
  /** Gives the memory of the engine back, once no activity runs. */
  close(): Promise<void>;
}

export function openDevice({ openEngine, lockPath, report, hardware, onCompared }: DeviceOptions): Device {
  const pool = openEnginePool(openEngine);
  let planned: { readonly fingerprint: string; readonly planning: Planning | undefined } | undefined;

  let announced: Planning | undefined;

  /** Undefined where nothing can be expected: the machine is not measured, or not for such products. */
  function expectingOf({ pipeline }: RunFile, info: Engine['info']): Expecting | undefined {
    const profile = pipeline.engine.computeBits === 8 ? undefined : hardware?.();
    return profile && { profile, settings: pipeline.engine, info };
  }

  /** Of the first shard of a run that comes here: another policy for each would open the model anew for each. */
  function planningOf(fingerprint: string, rows: readonly PromptRow[], ask: Ask): Planning | undefined {
    if (planned?.fingerprint !== fingerprint) {
      const profile = hardware?.();
      planned = { fingerprint, planning: profile && { profile, work: workOf(rows, ask) } };
    }
    return planned.planning;
  }

  async function inferShard({ run, shard }: ShardInput): Promise<ShardOutcome> {
    const file = readRunFile(run.runDir);
    if (file.fingerprint !== run.fingerprint) throw replaced(run);
    const path = partPath(shard.index);
    const absolute = join(run.runDir, path);
    const identity = { fingerprint: run.fingerprint, shardSha256: shard.sha256 };
    if (partIsValid(absolute, { ...identity, rows: shard.rows })) {
      removeClaims(run.runDir, shard.index);
      return outcomeOf(shard.index, path, await readPart(absolute), undefined);
    }

    const claim = claimShard(run.runDir, shard.index, activityInfo().currentAttemptScheduledTimestampMs);
    const rows = readShard(join(run.runDir, shard.path), shard.sha256);
    const asked = rows.filter((row) => row.error === null);
    const planning = planningOf(run.fingerprint, asked, shard.ask);
    const signal = cancellationSignal();
    const began: { at?: number } = {};
    let progress: EngineProgress | undefined;
    let compared: StepComparison | undefined;
    const requests = asked.map((row) => requestOf(row, shard.ask));
    const name = `${shard.task}, shard ${shard.index + 1}`;
    const onProgress = (latest: EngineProgress) => {
      for (const line of newsOf(latest.checkpoint, progress?.checkpoint)) report?.(`${name}: ${line}`);
      progress = latest;
    };
    const { directory, fencingToken } = claim;
    const results = await withHeartbeat(
      () =>
        withDeviceTurn({ path: lockPath, signal, report: (line) => report?.(`${name}: ${line}`) }, () =>
          pool.use(engineOptions(file, planning), async (engine) => {
            const expecting = expectingOf(file, engine.info);
            if (expecting && planning && planning !== announced && shard.ask.kind === 'generate')
              report?.(expectedLine(expecting, planning.work));
            announced = planning;
            const before = await engine.usage();
            began.at = performance.now();
            const answered = await engine.run(requests, {
              signal,
              onProgress,
              checkpoint: { directory, fencingToken },
            });
            const took = secondsSince(began.at);
            const isWhole = shard.ask.kind === 'generate' && progress?.checkpoint?.recovery === undefined;
            const totals = totalsBetween(before, await engine.usage());
            compared = expecting && isWhole ? compareSteps(expecting, requests.length, totals, took) : undefined;
            return answered;
          }),
        ),
      () => heartbeatDetails(shard, rows.length - asked.length, { progress, claim, seconds: secondsSince(began.at) }),
    );
    const seconds = secondsSince(began.at);
    // A worker that was thought dead leaves the part to the one that took over.
    signal.throwIfAborted();
    const answers = answersOf(rows, results);
    const { engineVersion, pipeline } = file;
    const types = readManifest(run.runDir)?.columnTypes ?? {};
    const { columns } = pipeline;
    if (compared) {
      claim.write(() => keepSteps(run.runDir, shard.index, compared!));
      onCompared?.(compared);
    }
    claim.write(() =>
      writePart(absolute, answers, { ...identity, engineVersion, columns, types, workplace: directory }),
    );
    claim.release();
    const status = progress?.checkpoint;
    const recovered = status && recoveredOf(status);
    const notes = status ? notesOf(status) : [];
    return {
      ...outcomeOf(shard.index, path, answers, seconds),
      ...(recovered && { recovered }),
      ...(notes.length > 0 && { notes }),
    };
  }

  return {
    activities: { inferShard: (input) => explainingFailures(() => inferShard(input)) },
    close: () => pool.close(),
  };
}

function expectedLine(expecting: Expecting, work: Planning['work']): string {
  const { gpuBatchSize, numGpuBatches, schedule, weights } = expecting.info.policy;
  const { generationThroughput, totalSeconds } = expectationOf(expecting, work);
  const stays = `${Math.round(100 * (weights.gpu + weights.cpu))} % of the weights in memory`;
  const speed = `${generationThroughput.toPrecision(3)} new tokens a second expected, ${Math.ceil(totalSeconds)} s for this shard at most`;
  return `policy: ${gpuBatchSize} x ${numGpuBatches} sequences, ${schedule}, ${stays}; ${speed}`;
}

function engineOptions({ modelPath, pipeline }: RunFile, planning: Planning | undefined): EngineOptions {
  const { policy, ...settings } = pipeline.engine;
  const chosen = policy === 'auto' ? planning && { planning } : { policy: readPolicy(policy) };
  return { model: modelPath, ...settings, ...chosen };
}

/** Options are not counted: they are short beside their question. */
function workOf(rows: readonly PromptRow[], ask: Ask): Planning['work'] {
  const promptTokens = rows.reduce((sum, row) => sum + row.promptTokens, 0) / Math.max(1, rows.length);
  return { numSequences: rows.length, promptTokens, newTokens: ask.kind === 'generate' ? ask.maxNewTokens : 1 };
}

function heartbeatDetails(
  shard: ShardInput['shard'],
  rowsWithoutQuestion: number,
  now: { readonly progress: EngineProgress | undefined; readonly claim: Claim; readonly seconds: number },
): ShardHeartbeat {
  const { progress, claim, seconds } = now;
  const { finished = 0, promptTokens = 0, generatedTokens = 0 } = progress ?? {};
  return {
    shard: shard.path,
    rowsDone: rowsWithoutQuestion + finished,
    rows: shard.rows,
    promptTokens,
    generatedTokens,
    tokensPerSecond: seconds > 0 ? Math.round((promptTokens + generatedTokens) / seconds) : 0,
    checkpoint: claim.path,
    checkpointsWritten: progress?.checkpoint?.written ?? 0,
  };
}

/** @param seconds undefined where the part was there already. */
function outcomeOf(
  index: number,
  path: string,
  answers: readonly AnswerRow[],
  seconds: number | undefined,
): ShardOutcome {
  return {
    index,
    path,
    rows: answers.length,
    errors: answers.filter((answer) => answer.error !== null).length,
    promptTokens: answers.reduce((sum, answer) => sum + answer.promptTokens, 0),
    generatedTokens: answers.reduce((sum, answer) => sum + answer.completionTokens, 0),
    seconds: seconds ?? 0,
    reused: seconds === undefined,
  };
}

function secondsSince(start: number | undefined): number {
  return start === undefined ? 0 : (performance.now() - start) / 1000;
}
