/**
 * One run: plan it, answer its shards, report.
 *
 * Shards pass through a sliding window of activities, each of which writes one part. After some hundred shards the
 * workflow continues as new, with its totals, so that its history stays short whatever the size of the dataset. A pause
 * stops the activities, which leave checkpoints, and asks for their shards again when it ends.
 */
import {
  ActivityCancellationType,
  CancellationScope,
  isCancellation,
  makeContinueAsNewFunc,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type {
  DeviceActivities,
  PlanActivities,
  PlannedRun,
  RunPipelineInput,
  RunResult,
} from '../activities/contracts.js';
import type { ShardReference } from '../datasets/rows.js';
import { explained } from './failure.js';
import { progressMarkdown } from './markdown.js';
import { openPause, type Pause } from './pause.js';
import { addOutcome, answerQuery, beginProgress, type Progress, progressQuery } from './progress.js';

// Waiting for the confirmation of a cancelled activity leaves nobody writing when the workflow has ended.
const cancellationType = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED;
// Which failures another attempt can help is decided where they arise; one that can is tried again without hurry.
const retry = { initialInterval: '1 second', maximumInterval: '30 seconds' };

// Planning and reporting stream over the whole dataset; one row of it may keep the thread for a while.
const { planRun, reportRun } = proxyActivities<PlanActivities>({
  startToCloseTimeout: '1 day',
  heartbeatTimeout: '2 minutes',
  cancellationType,
  retry,
});

/** As makeContinueAsNewFunc names it: a scheduled run, too, continues as this workflow. */
const continueRun = makeContinueAsNewFunc<typeof runPipeline>({ workflowType: 'runPipeline' });

export async function runPipeline(input: RunPipelineInput): Promise<RunResult> {
  const { run } = input;
  const progress = beginProgress(input.resumed);
  setHandler(progressQuery, () => answerQuery(progress));
  const pause = openPause();
  show(input, progress);

  const firstShard = input.resumed?.nextShard ?? 0;
  const summary = `Plan ${run.name}`;
  const page = await explained('', () =>
    planRun.executeWithOptions({ summary }, [{ run, firstShard, maxShards: input.shardsPerExecution }]),
  );
  progress.stage = 'inferring';
  progress.plannedRows = page.rows;
  progress.plannedShards = page.shardCount;
  progress.inferringSince ??= Date.now();
  show(input, progress);

  const nextShard = firstShard + (await inferPage({ input, page, progress, pause }));
  if (nextShard < page.shardCount) {
    const { totals, computedRows, inferringSince } = progress;
    return continueRun({ ...input, resumed: { nextShard, totals, computedRows, inferringSince } });
  }

  progress.stage = 'scoring';
  show(input, progress);
  const result = await explained('report: ', () =>
    reportRun.executeWithOptions({ summary: `Score and report ${run.name}` }, [{ run, totals: progress.totals }]),
  );
  progress.stage = 'done';
  show(input, progress);
  return result;
}

interface Page {
  readonly input: RunPipelineInput;
  readonly page: PlannedRun;
  readonly progress: Progress;
  readonly pause: Pause;
}

/** @returns how many shards of the page were answered: all, unless the history became long before. */
async function inferPage(run: Page): Promise<number> {
  const { page, pause } = run;
  const waiting = [...page.shards];
  for (;;) {
    await inferWindow(run, waiting);
    if (!pause.isAsked) return page.shards.length - waiting.length;
    await standStill(run);
  }
}

/** Passes shards through the window until none waits, the history is long or a pause begins: then the unfinished wait again. */
async function inferWindow({ input, page, progress, pause }: Page, waiting: ShardReference[]): Promise<void> {
  const { inferShard } = proxyActivities<DeviceActivities>({
    taskQueue: input.deviceQueue,
    // A shard may compute for hours, but a worker that is silent for this long is gone.
    startToCloseTimeout: '1 day',
    heartbeatTimeout: '20 seconds',
    cancellationType,
    retry,
  });
  const running = new Set<Promise<void>>();
  const unfinished: ShardReference[] = [];
  const scope = new CancellationScope();

  function start(shard: ShardReference): void {
    const name = `${shard.task}, shard ${shard.index + 1} of ${page.shardCount}`;
    const one = explained(`${name}: `, () =>
      inferShard.executeWithOptions({ summary: `${name}, ${shard.rows} rows` }, [{ run: input.run, shard }]),
    )
      .then((outcome) => {
        addOutcome(progress, outcome);
        show(input, progress);
      })
      .catch((error: unknown) => {
        if (!scope.consideredCancelled || !isCancellation(error)) throw error;
        unfinished.push(shard);
      })
      .finally(() => running.delete(one));
    running.add(one);
  }

  const paused = pause.begins();
  try {
    await scope.run(async () => {
      while (waiting.length > 0 && !pause.isAsked && !workflowInfo().continueAsNewSuggested) {
        if (running.size < input.windowSize) start(waiting.shift()!);
        else await Promise.race([...running, paused]);
      }
      await Promise.race([Promise.all(running), paused]);
    });
    if (pause.isAsked) scope.cancel();
    await Promise.all(running);
  } catch (error) {
    // The first failure decides; what still computes is told to stop, and waited for.
    scope.cancel();
    await CancellationScope.nonCancellable(() => Promise.allSettled(running));
    throw error;
  }
  waiting.unshift(...unfinished.sort((a, b) => a.index - b.index));
}

async function standStill({ input, progress, pause }: Page): Promise<void> {
  const since = Date.now();
  progress.stage = 'paused';
  show(input, progress);
  await pause.ends();
  progress.stage = 'inferring';
  // Time that nothing was computed in says nothing of the speed.
  progress.inferringSince = (progress.inferringSince ?? since) + Date.now() - since;
  show(input, progress);
}

function show(input: RunPipelineInput, progress: Progress): void {
  setCurrentDetails(progressMarkdown(input.run, progress, Date.now()));
}
