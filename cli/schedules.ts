/** Schedules: pipelines that Temporal starts by the clock, each firing in a run directory of its own. */
import {
  type Client,
  isGrpcServiceError,
  ScheduleAlreadyRunning,
  type ScheduleDescription,
  type ScheduleExecutionResult,
  type ScheduleHandle,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
  type ScheduleSpec,
  type ScheduleSummary,
} from '@temporalio/client';
import type { PipelineReference, ScheduledRunInput } from '../activities/contracts.js';
import { deviceQueueOf, SHARED_QUEUE } from '../activities/queues.js';
import { InputError } from '../datasets/errors.js';
import type { Pipeline } from '../datasets/spec.js';
import { nearest } from '../datasets/suggest.js';
import type { scheduledRun } from '../workflows/scheduled.js';
import type { TemporalConnection } from './connection.js';
import { SHARDS_PER_EXECUTION, WINDOW_SIZE } from './run-workflow.js';
import { searchAttributesOf } from './search-attributes.js';

/** When it fires: cron expressions or an interval. */
export interface Timing {
  /** Five fields, or `@daily` and the like. */
  readonly cron?: readonly string[];
  /** Such as `6h` or `30 minutes`. */
  readonly every?: string;
  /** Of cron expressions, such as Europe/Berlin; default UTC. */
  readonly timeZone?: string;
}

/** What happens when the run before has not ended: names as people type them. */
export const overlapPolicies = {
  skip: ScheduleOverlapPolicy.SKIP,
  'buffer-one': ScheduleOverlapPolicy.BUFFER_ONE,
  'buffer-all': ScheduleOverlapPolicy.BUFFER_ALL,
  'cancel-other': ScheduleOverlapPolicy.CANCEL_OTHER,
  'terminate-other': ScheduleOverlapPolicy.TERMINATE_OTHER,
  'allow-all': ScheduleOverlapPolicy.ALLOW_ALL,
} as const;
export type OverlapName = keyof typeof overlapPolicies;

export interface NewSchedule {
  readonly id: string;
  readonly reference: PipelineReference;
  /** The same pipeline, read: a mistake in it is found now and not at night. */
  readonly pipeline: Pipeline;
  readonly timing: Timing;
  /** Default skip. */
  readonly overlap?: OverlapName;
  /** Firings missed while no server ran are made up for if no older than this; default a day. */
  readonly catchupWindow?: string;
  /** Default true: a run that failed once will fail every night. Firings by hand do not count. */
  readonly pauseOnFailure?: boolean;
  readonly queue?: string;
  readonly paused?: boolean;
}

export interface ScheduleView {
  readonly id: string;
  readonly pipeline: string;
  readonly runsDir: string;
  readonly timing: Timing;
  readonly paused: boolean;
  readonly note: string | undefined;
  readonly nextTimes: readonly Date[];
  /** Newest last. */
  readonly recentRuns: readonly { readonly workflowId: string; readonly takenAt: Date }[];
}

export interface ScheduleDetails extends ScheduleView {
  readonly overlap: OverlapName;
  readonly catchupSeconds: number;
  readonly pauseOnFailure: boolean;
  readonly queue: string;
  readonly taken: number;
  readonly skipped: number;
  readonly missed: number;
  readonly running: readonly string[];
}

const DEFAULT_CATCHUP = '1 day';

/** @throws InputError where the id is taken or the timing is not understood. */
export async function createSchedule(temporal: TemporalConnection, schedule: NewSchedule): Promise<void> {
  const { id, reference, pipeline, timing, overlap = 'skip', queue = SHARED_QUEUE } = schedule;
  const input: ScheduledRunInput = {
    pipeline: reference,
    runsDir: pipeline.runDir,
    deviceQueue: deviceQueueOf(queue, pipeline.engine.device),
    windowSize: WINDOW_SIZE,
    shardsPerExecution: SHARDS_PER_EXECUTION,
  };
  const attributes = temporal.hasSearchAttributes ? { typedSearchAttributes: searchAttributesOf(pipeline) } : {};
  try {
    await temporal.client.schedule.create({
      scheduleId: id,
      spec: specOf(timing),
      policies: {
        overlap: overlapPolicies[overlap],
        catchupWindow: (schedule.catchupWindow ?? DEFAULT_CATCHUP) as '1 day',
        pauseOnFailure: schedule.pauseOnFailure ?? true,
      },
      action: {
        type: 'startWorkflow',
        workflowType: 'scheduledRun' satisfies (typeof scheduledRun)['name'],
        workflowId: id,
        taskQueue: queue,
        args: [input],
        staticSummary: `${pipeline.name}, scheduled`.slice(0, 200),
        memo: { runsDir: pipeline.runDir },
        ...attributes,
      },
      memo: { pipeline: reference.path, runsDir: pipeline.runDir, timing },
      state: { paused: schedule.paused ?? false },
      ...attributes,
    });
  } catch (error) {
    if (error instanceof ScheduleAlreadyRunning) {
      throw new InputError(`there is a schedule ${id} already; delete it first, or choose another id`, {
        cause: error,
      });
    }
    throw explainedTiming(error);
  }
}

export async function listSchedules({ client }: TemporalConnection): Promise<ScheduleView[]> {
  const views: ScheduleView[] = [];
  for await (const { scheduleId, memo, state, info } of client.schedule.list()) {
    const { pipeline, runsDir, timing } = (memo ?? {}) as Partial<ScheduleMemo>;
    // Schedules of other programs in the same namespace.
    if (pipeline === undefined || runsDir === undefined || timing === undefined) continue;
    views.push(viewOf(scheduleId, { pipeline, runsDir, timing }, state, info));
  }
  return views.sort((a, b) => (a.id < b.id ? -1 : 1));
}

export async function describeSchedule(temporal: TemporalConnection, id: string): Promise<ScheduleDetails> {
  const { memo, state, info, policies, action } = await known(temporal, id, (handle) => handle.describe());
  const { pipeline = '', runsDir = '', timing = {} } = (memo ?? {}) as Partial<ScheduleMemo>;
  const names = Object.keys(overlapPolicies) as OverlapName[];
  return {
    ...viewOf(id, { pipeline, runsDir, timing }, state, info),
    overlap: names.find((name) => overlapPolicies[name] === policies.overlap) ?? 'skip',
    catchupSeconds: policies.catchupWindow / 1000,
    pauseOnFailure: policies.pauseOnFailure,
    queue: action.taskQueue,
    taken: info.numActionsTaken,
    skipped: info.numActionsSkippedOverlap,
    missed: info.numActionsMissedCatchupWindow,
    running: info.runningActions.map(({ workflow }) => workflow.workflowId),
  };
}

/** What a listing and a description of a schedule have in common. */
function viewOf(
  id: string,
  memo: ScheduleMemo,
  { paused, note }: ScheduleSummary['state'],
  { nextActionTimes, recentActions }: Pick<ScheduleDescription['info'], 'nextActionTimes' | 'recentActions'>,
): ScheduleView {
  return { id, ...memo, paused, note, nextTimes: nextActionTimes, recentRuns: runsOf(recentActions) };
}

/** Fires now, whatever the clock says. */
export function triggerSchedule(temporal: TemporalConnection, id: string, overlap?: OverlapName): Promise<void> {
  return known(temporal, id, (handle) => handle.trigger(overlap && overlapPolicies[overlap]));
}

export function pauseSchedule(temporal: TemporalConnection, id: string, note?: string): Promise<void> {
  return known(temporal, id, (handle) => handle.pause(note));
}

export function resumeSchedule(temporal: TemporalConnection, id: string, note?: string): Promise<void> {
  return known(temporal, id, (handle) => handle.unpause(note));
}

/** Runs that are under way go on. */
export function deleteSchedule(temporal: TemporalConnection, id: string): Promise<void> {
  return known(temporal, id, (handle) => handle.delete());
}

/** Fires for every time of the past that lies between, one after the other unless told otherwise. */
export function backfillSchedule(
  temporal: TemporalConnection,
  id: string,
  span: { readonly start: Date; readonly end: Date; readonly overlap?: OverlapName },
): Promise<void> {
  // Skipping would discard all but the first.
  const overlap = overlapPolicies[span.overlap ?? 'buffer-all'];
  return known(temporal, id, (handle) => handle.backfill({ start: span.start, end: span.end, overlap }));
}

interface ScheduleMemo {
  readonly pipeline: string;
  readonly runsDir: string;
  readonly timing: Timing;
}

function specOf({ cron, every, timeZone }: Timing): ScheduleSpec {
  if ((cron === undefined) === (every === undefined)) {
    throw new InputError('a schedule needs either a cron expression or an interval: --cron "0 3 * * *", or --every 6h');
  }
  return {
    ...(cron ? { cronExpressions: [...cron] } : {}),
    ...(every ? { intervals: [{ every: every as '6h' }] } : {}),
    ...(timeZone ? { timezone: timeZone } : {}),
  };
}

function explainedTiming(error: unknown): unknown {
  const message = isGrpcServiceError(error) ? error.details : (error as Error).message;
  const isInput = error instanceof TypeError || /invalid|cron|interval|time ?zone/i.test(message);
  if (!isInput) return error;
  return new InputError(
    `the schedule is not understood: ${message}; cron has five fields (0 3 * * *), an interval is such as 6h, ` +
      'a time zone such as Europe/Berlin',
    { cause: error },
  );
}

async function known<T>({ client }: TemporalConnection, id: string, act: (handle: ScheduleHandle) => Promise<T>) {
  try {
    return await act(client.schedule.getHandle(id));
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error;
    const ids = await idsOf(client);
    const near = nearest(id, ids);
    const advice = near ? `did you mean ${near}?` : `there are: ${ids.join(', ') || 'none'}`;
    throw new InputError(`there is no schedule ${JSON.stringify(id)}; ${advice}`, { cause: error });
  }
}

async function idsOf(client: Client): Promise<string[]> {
  const ids: string[] = [];
  for await (const { scheduleId } of client.schedule.list()) ids.push(scheduleId);
  return ids.sort();
}

function runsOf(actions: readonly ScheduleExecutionResult[]): ScheduleView['recentRuns'] {
  return actions.map(({ takenAt, action }) => ({ workflowId: action.workflow.workflowId, takenAt }));
}
