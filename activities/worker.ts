/** A worker of this process: one part runs the workflows and plans, one computes on the device, a shard at a time. */
import { type NativeConnection, Worker } from '@temporalio/worker';
import type { PlanActivities } from './contracts.js';
import type { Device } from './infer.js';
import { deviceQueueOf } from './queues.js';

export interface WorkerOptions {
  readonly connection: NativeConnection;
  readonly namespace: string;
  /** Of the workflows and plans; the device's queue is named after it. */
  readonly queue: string;
  readonly deviceName: string;
  readonly plan: PlanActivities;
  readonly device: Device;
  /** Path of the workflows' script. */
  readonly workflows: string;
}

export interface RunningWorker {
  readonly queues: readonly string[];
  /** Settles when the worker has stopped: rejects if it failed rather than was told to. */
  readonly stopped: Promise<void>;
  /** Tells activities to stop, waits for them, closes the engine. */
  shutdown(): Promise<void>;
}

/** Activities stop between two layers of the model; one that does not is left behind after this. */
const SHUTDOWN_FORCE = '30 seconds';
/** Heartbeats are collected this long before they are sent. */
const HEARTBEAT_THROTTLE = '1 second';

export async function startWorker(options: WorkerOptions): Promise<RunningWorker> {
  const { connection, namespace, queue, deviceName, plan, device, workflows } = options;
  const common = {
    connection,
    namespace,
    shutdownForceTime: SHUTDOWN_FORCE,
    maxHeartbeatThrottleInterval: HEARTBEAT_THROTTLE,
    defaultHeartbeatThrottleInterval: HEARTBEAT_THROTTLE,
  };
  const planner = await Worker.create({
    ...common,
    taskQueue: queue,
    workflowBundle: { codePath: workflows },
    activities: plan,
    maxConcurrentActivityTaskExecutions: 2,
    maxConcurrentWorkflowTaskExecutions: 4,
    maxCachedWorkflows: 20,
    workflowThreadPoolSize: 1,
  });
  const deviceQueue = deviceQueueOf(queue, deviceName);
  const computer = await Worker.create({
    ...common,
    taskQueue: deviceQueue,
    activities: device.activities,
    // A device computes one shard at a time: its memory holds one.
    maxConcurrentActivityTaskExecutions: 1,
  });
  const workers = [planner, computer];
  const running = Promise.all(workers.map((worker) => worker.run()));
  const stopped = running.then(
    () => undefined,
    (error: unknown) => {
      stop(workers);
      throw error;
    },
  );
  // Whoever waits for `stopped` hears of the failure; if nobody does yet, it is not lost.
  stopped.catch(() => undefined);
  return {
    queues: [queue, deviceQueue],
    stopped,
    async shutdown() {
      stop(workers);
      await Promise.allSettled([stopped]);
      await device.close();
    },
  };
}

function stop(workers: readonly Worker[]): void {
  for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
}
