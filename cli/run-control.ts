/** Ending a run that is under way, holding it, and letting it go on. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkflowHandle } from '@temporalio/client';
import type { RunProgress } from '../activities/contracts.js';
import { readRunFile } from '../activities/run-file.js';
import { openConnection } from './connection.js';
import { readProgress } from './run-progress.js';

type Report = (line: string) => void;

/** `unattended`: the workflow is told, and no worker is there to act on it. */
export type Told = 'done' | 'unattended';

const POLL_MILLISECONDS = 200;

/**
 * Asks the workflow to stop and waits until it has. Where no worker is there to hear of it, nothing is computing either,
 * and it is ended from outside.
 *
 * @returns undefined where it was not open
 */
export function cancelRun(runDir: string, report: Report): Promise<Told | undefined> {
  return withOpenRun(runDir, report, async ({ handle, readProgress }) => {
    if (!(await readProgress())) {
      await handle.terminate('cancelled; no worker was there');
      return 'unattended';
    }
    await handle.cancel();
    report('waiting for its worker to stop');
    // Rejects as cancelled, or resolves where it was just done.
    await handle.result().catch(() => undefined);
    return 'done';
  });
}

/**
 * Waits until nothing of it is computed: the layer under way is finished, and a checkpoint is written.
 *
 * @returns undefined where it was not open
 */
export function pauseRun(runDir: string, report: Report): Promise<Told | undefined> {
  return withOpenRun(runDir, report, async (run) => {
    await run.handle.signal('pause');
    report('waiting for its worker to stop');
    return until(run, ({ stage }) => stage !== 'planning' && stage !== 'inferring');
  });
}

/** @returns undefined where it was not open */
export function resumeRun(runDir: string, report: Report): Promise<Told | undefined> {
  return withOpenRun(runDir, report, async (run) => {
    await run.handle.signal('resume');
    return until(run, ({ stage }) => stage !== 'paused');
  });
}

interface OpenRun {
  readonly handle: WorkflowHandle;
  /** Undefined while no worker answers. */
  readProgress(): Promise<RunProgress | undefined>;
}

async function withOpenRun<T>(runDir: string, report: Report, act: (run: OpenRun) => Promise<T>) {
  const { workflowId } = readRunFile(runDir);
  const temporal = await openConnection({ report });
  try {
    const { client } = temporal;
    const handle = client.workflow.getHandle(workflowId);
    const description = await handle.describe().catch(() => undefined);
    if (description?.status.name !== 'RUNNING') return undefined;
    return await act({ handle, readProgress: () => readProgress(client, workflowId) });
  } finally {
    await temporal.close();
  }
}

async function until(run: OpenRun, holds: (progress: RunProgress) => boolean): Promise<Told> {
  for (;;) {
    const progress = await run.readProgress();
    if (!progress) return 'unattended';
    if (holds(progress)) return 'done';
    await sleep(POLL_MILLISECONDS);
  }
}
