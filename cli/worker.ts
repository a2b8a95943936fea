/** A worker in this process: for the run of one command, or for whatever comes (`zigzag worker`). */
import { openDevice } from '../activities/infer.js';
import { createPlanActivities } from '../activities/plan.js';
import { type RunningWorker, startWorker } from '../activities/worker.js';
import { workflowBundle } from '../activities/workflow-bundle.js';
import type { Engine, EngineOptions } from '../engine/requests.js';
import type { TemporalConnection } from './connection.js';

export interface EmbeddedWorkerOptions {
  readonly temporal: TemporalConnection;
  readonly queue: string;
  /** Default: cpu. */
  readonly deviceName?: string;
  readonly cacheDir: string;
  readonly openEngine: (options: EngineOptions) => Promise<Engine>;
  readonly resolveModel: (reference: string) => string;
}

export async function startEmbeddedWorker(options: EmbeddedWorkerOptions): Promise<RunningWorker> {
  const { temporal, queue, deviceName = 'cpu', cacheDir, openEngine, resolveModel } = options;
  return startWorker({
    connection: await temporal.connectWorker(),
    namespace: temporal.namespace,
    queue,
    deviceName,
    plan: createPlanActivities({ cacheDir, resolveModel }),
    device: openDevice({ openEngine }),
    workflows: await workflowBundle(cacheDir),
  });
}
