/** Where a run stands, from its directory and from Temporal where it can be asked. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { RunProgress } from '../activities/contracts.js';
import { partPath } from '../activities/parts.js';
import { readRunFile } from '../activities/run-file.js';
import { readManifest } from '../datasets/shard.js';
import { configuredCluster, openConnection, type TemporalConnection } from './connection.js';
import { readProgress } from './run-progress.js';
import { findLocalServer } from './temporal-server.js';

/** `waiting`: open, and no worker is there; `interrupted`: begun and not finished, and no workflow is open. */
export type RunStage = 'running' | 'paused' | 'waiting' | 'interrupted' | 'finished' | 'failed' | 'cancelled';

export interface RunState {
  readonly runDir: string;
  readonly name: string;
  readonly workflowId: string;
  readonly stage: RunStage;
  /** Answered: in parts, and in shards under way where a worker tells. */
  readonly rows: number;
  /** Zero until the source was read. */
  readonly plannedRows: number;
  readonly doneShards: number;
  readonly plannedShards: number;
  /** Exists once the run is finished. */
  readonly report: string | null;
  readonly uiAddress: string | null;
  /** Goes on with the run. */
  readonly command: string;
}

/** No server is started for this: without one, the directory alone is read. */
export async function readRunState(runDir: string): Promise<RunState> {
  const { workflowId, pipeline, command } = readRunFile(runDir);
  const shards = readManifest(runDir)?.shards ?? [];
  const done = shards.filter((shard) => existsSync(join(runDir, partPath(shard.index))));
  const asked = await withReachableTemporal((temporal) => askTemporal(temporal, workflowId));
  const isReported = existsSync(join(runDir, 'results.json'));
  const progress = asked?.progress;
  const stage = stageOf(asked, isReported && done.length === shards.length);
  return {
    runDir,
    name: pipeline.name,
    workflowId,
    stage,
    rows: progress?.rows ?? done.reduce((rows, shard) => rows + shard.rows, 0),
    plannedRows: progress?.plannedRows || shards.reduce((rows, shard) => rows + shard.rows, 0),
    doneShards: progress?.doneShards ?? done.length,
    plannedShards: progress?.plannedShards || shards.length,
    report: isReported ? join(runDir, 'report.html') : null,
    uiAddress: asked?.uiAddress ?? null,
    command: stage === 'paused' ? `zigzag resume ${runDir}` : command,
  };
}

/** Calls `ask` where a cluster is configured or the local server runs. */
async function withReachableTemporal<T>(ask: (temporal: TemporalConnection) => Promise<T>): Promise<T | undefined> {
  if (!configuredCluster() && !(await findLocalServer())) return undefined;
  const temporal = await openConnection();
  try {
    return await ask(temporal);
  } finally {
    await temporal.close();
  }
}

interface Asked {
  /** As Temporal names it; undefined where it does not know the workflow. */
  readonly status: string | undefined;
  readonly progress: RunProgress | undefined;
  readonly uiAddress: string | undefined;
}

async function askTemporal(temporal: TemporalConnection, workflowId: string): Promise<Asked> {
  const description = await temporal.client.workflow
    .getHandle(workflowId)
    .describe()
    .catch(() => undefined);
  const status = description?.status.name;
  const progress = status === 'RUNNING' ? await readProgress(temporal.client, workflowId) : undefined;
  return { status, progress, uiAddress: description && temporal.workflowUrl(workflowId) };
}

function stageOf({ status, progress }: Partial<Asked> = {}, isComplete: boolean): RunStage {
  if (status === 'RUNNING' && !progress) return 'waiting';
  if (status === 'RUNNING') return progress?.stage === 'paused' ? 'paused' : 'running';
  if (isComplete) return 'finished';
  if (status === 'FAILED' || status === 'TIMED_OUT') return 'failed';
  if (status === 'CANCELLED' || status === 'TERMINATED') return 'cancelled';
  return 'interrupted';
}
