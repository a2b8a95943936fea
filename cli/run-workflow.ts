/**
 * One run from the command line's side: the workflow is started or found under way, a worker of this process computes,
 * and progress is told until the result is there.
 *
 * Interrupted, the workflow stays open in the server's database: the same command finds it and goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  isGrpcServiceError,
  ServiceError,
  WorkflowFailedError,
  type WorkflowHandleWithFirstExecutionRunId,
  WorkflowIdConflictPolicy,
  WorkflowNotFoundError,
} from '@temporalio/client';
import { ApplicationFailure, CancelledFailure, TerminatedFailure } from '@temporalio/common';
import type { RunProgress, RunResult } from '../activities/contracts.js';
import { fromFailure } from '../activities/failures.js';
import { deviceQueueOf, SHARED_QUEUE } from '../activities/queues.js';
import { type RunFile, runInputOf } from '../activities/run-file.js';
import type { Engine, EngineOptions } from '../engine/requests.js';
import type { runPipeline } from '../workflows/run.js';
import { withCallLimit } from './call-limit.js';
import type { TemporalConnection } from './connection.js';
import { FailedError } from './failures.js';
import { isReachable, readProgress } from './run-progress.js';
import { searchAttributesOf } from './search-attributes.js';
import { startEmbeddedWorker } from './worker.js';

export interface ExecuteOptions {
  /** Of `prepareRunDirectory`, which needs no Temporal and finds most mistakes. */
  readonly file: RunFile;
  readonly temporal: TemporalConnection;
  readonly cacheDir: string;
  readonly openEngine: (options: EngineOptions) => Promise<Engine>;
  readonly resolveModel: (reference: string) => string;
  /** Queue of workers elsewhere; then none is started here. */
  readonly queue?: string;
  /** The workflow is there: its id, its page in the UI, and whether an earlier command had started it. */
  readonly onStarted?: (run: StartedRun) => void;
  /** A line for people: the server is away or there again, what an earlier attempt left is taken up. */
  readonly report?: ((line: string) => void) | undefined;
  /** About once a second. */
  readonly onProgress?: (progress: RunProgress) => void;
  readonly signal?: AbortSignal | undefined;
}

export type DetachedOptions = Pick<ExecuteOptions, 'file' | 'temporal' | 'queue'>;

export interface StartedRun {
  readonly workflowId: string;
  readonly runDir: string;
  readonly url: string | undefined;
  readonly resumed: boolean;
}

/** Shards under way at once: some more than devices, so that a device never waits for the workflow. */
export const WINDOW_SIZE = 8;
/** About six events a shard; Temporal advises to stay below a few thousand. */
export const SHARDS_PER_EXECUTION = 250;

const PROGRESS_MILLISECONDS = 1_000;
/** A result may be days away; it is asked for anew as often as this. */
const RESULT_MILLISECONDS = 60_000;
const RETRY_MILLISECONDS = 500;

/** Starts the run, or joins it where it is under way, and waits for its result. */
export async function executeRun(options: ExecuteOptions): Promise<RunResult> {
  const { file, temporal, queue, signal } = options;
  signal?.throwIfAborted();
  const { handle, resumed, workflowQueue } = await startOrJoin(options, queue ?? `zigzag-${file.workflowId}`);
  options.onStarted?.(startedRun(options, resumed));
  const worker = queue ? undefined : await startEmbeddedWorker({ ...options, queue: workflowQueue });
  const over = new AbortController();
  try {
    const reporting = reportProgress(options, handle, over.signal);
    const result = await Promise.race([
      resultOf(temporal, handle, over.signal),
      whenAborted(signal, over.signal),
      temporal.lost,
      worker ? worker.stopped.then(() => new Promise<never>(() => {})) : new Promise<never>(() => {}),
    ]);
    over.abort();
    await reporting;
    return result;
  } finally {
    over.abort();
    await worker?.shutdown();
  }
}

/** Starts the run on workers elsewhere, or finds it under way, and returns at once. */
export async function startDetached(options: DetachedOptions): Promise<StartedRun> {
  const { resumed } = await startOrJoin(options, options.queue ?? SHARED_QUEUE);
  return startedRun(options, resumed);
}

type RunHandle = WorkflowHandleWithFirstExecutionRunId<typeof runPipeline>;

interface Joined {
  readonly handle: RunHandle;
  readonly resumed: boolean;
  /** Where the workflow waits for workers: that of the command that started it. */
  readonly workflowQueue: string;
}

async function startOrJoin({ temporal, file }: DetachedOptions, queue: string): Promise<Joined> {
  const { workflowId, pipeline, modelFacts, identity } = file;
  const { client } = temporal;
  const before = await client.workflow
    .getHandle(workflowId)
    .describe()
    .catch(() => undefined);
  const handle = await client.workflow.start<typeof runPipeline>('runPipeline', {
    workflowId,
    workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
    taskQueue: queue,
    args: [
      {
        run: runInputOf(file),
        deviceQueue: deviceQueueOf(queue, pipeline.engine.device),
        windowSize: WINDOW_SIZE,
        shardsPerExecution: SHARDS_PER_EXECUTION,
      },
    ],
    staticSummary: `${pipeline.name}: ${modelFacts.file}`.slice(0, 200),
    staticDetails: detailsOf(file),
    memo: { runDir: pipeline.runDir, fingerprint: file.fingerprint, model: identity.model },
    ...(temporal.hasSearchAttributes ? { typedSearchAttributes: searchAttributesOf(pipeline) } : {}),
  });
  const resumed = before?.status.name === 'RUNNING';
  return { handle, resumed, workflowQueue: resumed ? before.taskQueue : queue };
}

function detailsOf({ pipeline, modelFacts, command }: RunFile): string {
  const { work } = pipeline;
  const asked = work.kind === 'tasks' ? work.tasks.map((task) => task.name) : work.source.files;
  return [
    `Runs \`${modelFacts.file}\` (${modelFacts.family}) over ${asked.map((name) => `\`${name}\``).join(', ')}.`,
    '',
    `Outputs and report: \`${pipeline.runDir}\``,
    '',
    `Again, or further: \`${command}\``,
  ].join('\n');
}

function startedRun({ temporal, file }: DetachedOptions, resumed: boolean): StartedRun {
  const { workflowId, pipeline } = file;
  return { workflowId, runDir: pipeline.runDir, url: temporal.workflowUrl(workflowId), resumed };
}

async function reportProgress(options: ExecuteOptions, handle: RunHandle, over: AbortSignal): Promise<void> {
  const { temporal, report, onProgress } = options;
  let isAway = false;
  while (onProgress && !over.aborted) {
    const progress = await readProgress(temporal.client, handle.workflowId, over);
    const wasAway = isAway;
    isAway = !progress && !(await isReachable(temporal.client, over));
    if (over.aborted) return;
    if (isAway && !wasAway) report?.(`Temporal at ${temporal.address} does not answer; waiting until it does again.`);
    if (wasAway && !isAway) report?.('Temporal answers again.');
    if (progress) onProgress(progress);
    await sleep(PROGRESS_MILLISECONDS, undefined, { signal: over }).catch(() => undefined);
  }
}

/** Waits through outages of the server: it may be restarting. */
async function resultOf(temporal: TemporalConnection, handle: RunHandle, over: AbortSignal): Promise<RunResult> {
  for (;;) {
    try {
      // A call that is still open when the connection is closed would be tried again, and throw where nobody catches.
      return await withCallLimit(temporal.client, { milliseconds: RESULT_MILLISECONDS, signal: over }, () =>
        handle.result(),
      );
    } catch (error) {
      if (error instanceof WorkflowFailedError) throw reasonOf(error);
      if (error instanceof WorkflowNotFoundError) throw forgotten(temporal);
      if (!(error instanceof ServiceError || isGrpcServiceError(error)) || over.aborted) throw error;
      await sleep(RETRY_MILLISECONDS);
    }
  }
}

/** What the workflow died of, as the command line explains it. */
function reasonOf(error: WorkflowFailedError): Error {
  const { cause } = error;
  if (cause instanceof ApplicationFailure) return fromFailure(cause);
  if (cause instanceof CancelledFailure)
    return new RunEndedError('the run was cancelled; the same command starts it again');
  if (cause instanceof TerminatedFailure)
    return new RunEndedError('the run was terminated; the same command starts it again');
  return cause ?? error;
}

function forgotten({ address }: TemporalConnection): Error {
  return new RunEndedError(
    `Temporal at ${address} does not know the run any more, as after the loss of its database; the same command starts it again, and what is answered is kept`,
  );
}

/** Somebody ended the run on purpose. */
export class RunEndedError extends FailedError {
  override readonly name = 'RunEndedError';
}

function whenAborted(signal: AbortSignal | undefined, over: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const abort = () => reject(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true, signal: over });
  });
}
