/** Ending a run that is under way, or that nobody computes. */
import { readRunFile } from '../activities/run-file.js';
import { openConnection } from './connection.js';
import { readProgress } from './run-progress.js';

/**
 * Asks the workflow to stop and waits until it has. Where no worker is there to hear of it, nothing is computing either,
 * and it is ended from outside.
 *
 * @returns whether it was open.
 */
export async function cancelRun(runDir: string, report: (line: string) => void): Promise<boolean> {
  const { workflowId } = readRunFile(runDir);
  const temporal = await openConnection({ report });
  try {
    const handle = temporal.client.workflow.getHandle(workflowId);
    const description = await handle.describe().catch(() => undefined);
    if (description?.status.name !== 'RUNNING') return false;
    const isAttended = (await readProgress(temporal.client, workflowId)) !== undefined;
    if (!isAttended) {
      await handle.terminate('cancelled; no worker was there');
      return true;
    }
    await handle.cancel();
    report('waiting for its worker to stop');
    // Rejects as cancelled, or resolves where it was just done.
    await handle.result().catch(() => undefined);
    return true;
  } finally {
    await temporal.close();
  }
}
