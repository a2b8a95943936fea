/** A run that a schedule starts: a directory of its own for each firing, then the same workflow as any other run. */
import { proxyActivities, workflowInfo } from '@temporalio/workflow';
import type { PlanActivities, RunResult, ScheduledRunInput } from '../activities/contracts.js';
import { explained } from './failure.js';
import { runPipeline } from './run.js';

// The model's file is hashed here the first time, which takes minutes where it is large.
const { prepareRun } = proxyActivities<PlanActivities>({
  startToCloseTimeout: '1 hour',
  heartbeatTimeout: '2 minutes',
});

export async function scheduledRun(input: ScheduledRunInput): Promise<RunResult> {
  const { pipeline, runsDir, deviceQueue, windowSize, shardsPerExecution } = input;
  const runDir = `${runsDir}/${directoryName(firedAt())}`;
  const run = await explained('', () =>
    prepareRun.executeWithOptions({ summary: `Read ${pipeline.path}` }, [{ pipeline, runDir }]),
  );
  return runPipeline({ run, deviceQueue, windowSize, shardsPerExecution });
}

/** When it was due; a firing by hand, too, carries this attribute. */
function firedAt(): Date {
  const [due] = workflowInfo().searchAttributes.TemporalScheduledStartTime ?? [];
  return due instanceof Date ? due : workflowInfo().startTime;
}

/** Sorts by time and is a file name everywhere: 2026-11-25T030000Z. */
function directoryName(time: Date): string {
  return time
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(':', '');
}
