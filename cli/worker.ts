/** A worker in this process: for the run of one command, or for whatever comes (`zigzag worker`). */
import { openDevice } from '../activities/infer.js';
import { createPlanActivities } from '../activities/plan.js';
import { type RunningWorker, startWorker } from '../activities/worker.js';
import { workflowBundle } from '../activities/workflow-bundle.js';
import type { Engine, EngineOptions } from '../engine/requests.js';
import type { TemporalConnection } from './connection.js';
import { keepComparison, keptHardware } from './hardware.js';
import { deviceLockPath } from './state.js';

export interface EmbeddedWorkerOptions {
  readonly temporal: TemporalConnection;
  readonly queue: string;
  /** Default: cpu. */
  readonly deviceName?: string;
  readonly cacheDir: string;
  readonly openEngine: (options: EngineOptions) => Promise<Engine>;
  readonly resolveModel: (reference: string) => string;
  /** Told what is worth a line: what was taken up from an earlier attempt. */
  readonly report?: ((line: string) => void) | undefined;
}

export async function startEmbeddedWorker(options: EmbeddedWorkerOptions): Promise<RunningWorker> {
  const { temporal, queue, deviceName = 'cpu', cacheDir, openEngine, resolveModel, report } = options;
  return startWorker({
    connection: await temporal.connectWorker(),
    namespace: temporal.namespace,
    queue,
    deviceName,
    plan: createPlanActivities({ cacheDir, resolveModel }),
    device: openDevice({
      openEngine,
      lockPath: deviceLockPath(deviceName),
      report,
      hardware: keptHardware,
      onCompared: keepComparison,
    }),
    workflows: await workflowBundle(cacheDir),
  });
}
