/**
 * A Temporal server for one test file: the real one, started by the product's own code, its state in a directory of its
 * own. What a test needs of the world beside it (run directories, a cache) lies in the same directory.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from '@temporalio/worker';
import type { DeviceActivities, PlanActivities } from '../../activities/contracts.js';
import { deviceQueueOf } from '../../activities/queues.js';
import { logTemporalTo } from '../../activities/temporal-log.js';
import { workflowBundle } from '../../activities/workflow-bundle.js';
import { cacheDirectory } from '../../cli/bootstrap.js';
import { openConnection, type TemporalConnection } from '../../cli/connection.js';

export interface TestTemporal {
  readonly temporal: TemporalConnection;
  /** Removed at the end. */
  readonly directory: string;
  /** Environment in which commands find this server and no other. */
  readonly env: NodeJS.ProcessEnv;
  readonly log: readonly string[];
  close(): Promise<void>;
}

export async function openTestTemporal(): Promise<TestTemporal> {
  const directory = temporaryDirectory();
  const env = isolatedEnv(directory);
  const log: string[] = [];
  logTemporalTo((line) => log.push(line));
  const temporal = await openConnection({ env });
  return {
    temporal,
    directory,
    env,
    log,
    async close() {
      await temporal.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'zigzag-test-'));
}

/** The user's cache, where the Temporal program is; state below `directory`; no cluster of the user's. */
export function isolatedEnv(directory: string): NodeJS.ProcessEnv {
  const { TEMPORAL_ADDRESS: _, TEMPORAL_PROFILE: __, ...env } = process.env;
  return { ...env, XDG_STATE_HOME: join(directory, 'state'), TEMPORAL_CONFIG_FILE: join(directory, 'none.toml') };
}

/** Runs `act` beside a worker with these activities, which stand for the world. */
export async function withWorker<T>(
  { temporal }: TestTemporal,
  queue: string,
  activities: { readonly plan: PlanActivities; readonly device: DeviceActivities },
  act: () => Promise<T>,
): Promise<T> {
  const connection = await temporal.connectWorker();
  const common = { connection, namespace: temporal.namespace, maxHeartbeatThrottleInterval: '100 ms' as const };
  const workers = [
    await Worker.create({
      ...common,
      taskQueue: queue,
      workflowBundle: { codePath: await workflowBundle(cacheDirectory()) },
      activities: activities.plan,
    }),
    await Worker.create({ ...common, taskQueue: deviceQueueOf(queue, 'cpu'), activities: activities.device }),
  ];
  const running = Promise.all(workers.map((worker) => worker.run()));
  try {
    return await Promise.race([act(), running.then(() => Promise.reject(new Error('the worker stopped')))]);
  } finally {
    for (const worker of workers) worker.shutdown();
    await running;
  }
}
