/** Where a run stands now: what its workflow has counted, and what the shards under way say in their heartbeats. */
import { type Client, defaultPayloadConverter, type WorkflowExecutionDescription } from '@temporalio/client';
import type { RunProgress, ShardHeartbeat } from '../activities/contracts.js';
import { withCallLimit } from './call-limit.js';

/** A query waits for a worker; where none answers in time the next one may. */
const QUERY_MILLISECONDS = 5_000;
const PROBE_MILLISECONDS = 3_000;

/** @returns undefined while nobody can answer: no worker, or the server is away. */
export async function readProgress(
  client: Client,
  workflowId: string,
  signal?: AbortSignal,
): Promise<RunProgress | undefined> {
  const handle = client.workflow.getHandle(workflowId);
  try {
    const limit = { milliseconds: QUERY_MILLISECONDS, signal };
    const [counted, description] = await withCallLimit(client, limit, () =>
      Promise.all([handle.query<RunProgress>('progress'), handle.describe()]),
    );
    return shardsUnderWay(description).reduce(addShard, counted);
  } catch {
    return undefined;
  }
}

/** Whether the server answers at all. */
export async function isReachable(client: Client, signal?: AbortSignal): Promise<boolean> {
  const limit = { milliseconds: PROBE_MILLISECONDS, signal };
  return withCallLimit(client, limit, () => client.workflowService.getSystemInfo({})).then(
    () => true,
    () => false,
  );
}

/** Heartbeats of the activities that are pending, the engine's among them. */
export function shardsUnderWay({ raw }: WorkflowExecutionDescription): ShardHeartbeat[] {
  return (raw.pendingActivities ?? []).flatMap(({ heartbeatDetails }) => {
    const [payload] = heartbeatDetails?.payloads ?? [];
    const details = payload && (defaultPayloadConverter.fromPayload(payload) as ShardHeartbeat | undefined);
    return details?.shard ? [details] : [];
  });
}

function addShard(progress: RunProgress, shard: ShardHeartbeat): RunProgress {
  return {
    ...progress,
    rows: progress.rows + shard.rowsDone,
    promptTokens: progress.promptTokens + shard.promptTokens,
    generatedTokens: progress.generatedTokens + shard.generatedTokens,
  };
}
