import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunPipelineInput, RunProgress } from '../../activities/contracts.js';
import { deviceQueueOf } from '../../activities/queues.js';
import type { runPipeline } from '../../workflows/run.js';
import { openTestTemporal, type TestTemporal, withWorker } from '../support/temporal.js';
import { openWorld, type World } from '../support/world.js';

let server: TestTemporal;
beforeAll(async () => {
  server = await openTestTemporal();
});
afterAll(() => server.close());

describe('a run', () => {
  it('sums up its shards and reports once, however often it continued as new', async () => {
    const world = openWorld({ shards: 11 });
    const { handle, result } = await run('continued', world, { shardsPerExecution: 4 });
    expect(result).toMatchObject({ rows: 110, errors: 11, promptTokens: 1100, generatedTokens: 550, shards: 11 });
    expect(result.reusedShards).toBe(0);
    expect(world.answered.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // A page of the plan for each execution.
    expect(world.pages).toEqual([0, 4, 8]);
    expect(world.reports).toBe(1);
    const { historyLength } = await handle.describe();
    expect(historyLength).toBeLessThan(60);
  });

  it('never asks for more shards at once than its window holds', async () => {
    const world = openWorld({ shards: 9, act: () => sleep(40) });
    await run('window', world, { windowSize: 3 });
    expect(world.mostAtOnce).toBe(3);
  });

  it('counts the shards that were there already apart from those it computed', async () => {
    const world = openWorld({ shards: 4, outcome: ({ index }) => (index < 3 ? { reused: true, seconds: 0 } : {}) });
    const { result } = await run('reused', world);
    expect(result).toMatchObject({ shards: 4, reusedShards: 3, seconds: 2 });
  });

  it('fails with the reason of the shard that failed, after the others were told to stop', async () => {
    const stopped: number[] = [];
    const world = openWorld({
      shards: 3,
      act: async ({ shard }) => {
        if (shard.index === 1) {
          await sleep(200);
          throw ApplicationFailure.create({
            type: 'BAD_WEIGHTS',
            message: 'model.gguf is cut short',
            nonRetryable: true,
          });
        }
        await untilCancelled().catch((error) => {
          stopped.push(shard.index);
          throw error;
        });
      },
    });
    const failure = await run('failing', world).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(WorkflowFailedError);
    expect((failure as WorkflowFailedError).cause).toMatchObject({
      type: 'BAD_WEIGHTS',
      message: 'capitals, shard 2 of 3: model.gguf is cut short',
    });
    expect(stopped.toSorted()).toEqual([0, 2]);
    expect(world.reports).toBe(0);
  });

  it('tries a shard again where another attempt can help', async () => {
    const attempts: number[] = [];
    const world = openWorld({
      shards: 1,
      act: async () => {
        attempts.push(Context.current().info.attempt);
        if (attempts.length === 1) throw new Error('the backend hiccuped');
      },
    });
    const { result } = await run('retried', world);
    expect(attempts).toEqual([1, 2]);
    expect(result.shards).toBe(1);
  });

  it('is cancelled only when the shard under way has stopped', async () => {
    let stopped = false;
    const world = openWorld({
      shards: 2,
      act: async () => {
        await untilCancelled().catch(async (error) => {
          await sleep(300);
          stopped = true;
          throw error;
        });
      },
    });
    const outcome = await start('cancelled', world, {}, async (handle) => {
      await until(() => world.running === 2);
      await handle.cancel();
      return handle.result().catch((error: unknown) => error);
    });
    expect((outcome as WorkflowFailedError).cause).toBeInstanceOf(CancelledFailure);
    expect(stopped).toBe(true);
  });

  it('stands still when paused, its shards stopped, and asks for the unfinished ones again when it goes on', async () => {
    const asked: number[] = [];
    let stopped = 0;
    const world = openWorld({
      shards: 5,
      act: async ({ shard }) => {
        asked.push(shard.index);
        // The first and the third are done the second time only.
        if (![0, 2].includes(shard.index) || asked.filter((index) => index === shard.index).length > 1) return;
        await untilCancelled().catch(async (error) => {
          await sleep(100);
          stopped += 1;
          throw error;
        });
      },
    });
    await start('paused', world, { windowSize: 2, shardsPerExecution: 4 }, async (handle) => {
      // The fifth belongs to the next execution.
      await until(() => world.answered.length === 1 && world.running === 2);
      await handle.signal('pause');
      await until(async () => (await handle.query<RunProgress>('progress')).stage === 'paused');
      expect(stopped).toBe(2);
      expect(world.running).toBe(0);
      expect(await currentDetails(handle)).toContain('**Paused**');
      await sleep(200);
      expect(asked.toSorted()).toEqual([0, 1, 2]);

      await handle.signal('resume');
      const result = await handle.result();
      expect(asked.toSorted()).toEqual([0, 0, 1, 2, 2, 3, 4]);
      expect(result).toMatchObject({ shards: 5, rows: 50 });
      expect(world.answered.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
    });
  });

  it('is cancelled while it is paused', async () => {
    const world = openWorld({ shards: 1, act: untilCancelled });
    const outcome = await start('paused-cancelled', world, {}, async (handle) => {
      await until(() => world.running === 1);
      await handle.signal('pause');
      await until(async () => (await handle.query<RunProgress>('progress')).stage === 'paused');
      await handle.cancel();
      return handle.result().catch((error: unknown) => error);
    });
    expect((outcome as WorkflowFailedError).cause).toBeInstanceOf(CancelledFailure);
  });

  it('says where it stands, by query and as a table for the UI', async () => {
    const gate = openGate();
    const world = openWorld({ shards: 3, act: ({ shard }) => (shard.index === 2 ? gate.opened : Promise.resolve()) });
    await start('progress', world, {}, async (handle) => {
      let progress: RunProgress | undefined;
      await until(async () => {
        progress = await handle.query<RunProgress>('progress');
        return progress.doneShards === 2;
      });
      expect(progress).toMatchObject({ stage: 'inferring', plannedShards: 3, plannedRows: 30, rows: 20, errors: 2 });
      const details = await currentDetails(handle);
      expect(details).toContain('**Answering shards**');
      expect(details).toContain('| Shards | 2 of 3 |');
      expect(details).toContain('| Rows | 20 of 30 (66 %) |');
      expect(details).toMatch(/\| Time left \| about \d+ s \|/);
      gate.open();
      await handle.result();
      expect(await currentDetails(handle)).toContain('**Done**');
    });
  });
});

type RunHandle = WorkflowHandle<typeof runPipeline>;

async function run(name: string, world: World, input: Partial<RunPipelineInput> = {}) {
  return start(name, world, input, async (handle) => ({ handle, result: await handle.result() }));
}

function start<T>(
  name: string,
  world: World,
  input: Partial<RunPipelineInput>,
  act: (handle: RunHandle) => Promise<T>,
) {
  const queue = `queue-${name}`;
  return withWorker(server, queue, world, async () => {
    const handle = await server.temporal.client.workflow.start<typeof runPipeline>('runPipeline', {
      workflowId: name,
      taskQueue: queue,
      args: [
        {
          run: { runDir: `/runs/${name}`, name, fingerprint: 'f' },
          deviceQueue: deviceQueueOf(queue, 'cpu'),
          windowSize: 8,
          shardsPerExecution: 250,
          ...input,
        },
      ],
    });
    return act(handle);
  });
}

async function currentDetails(handle: RunHandle): Promise<string> {
  const metadata = await handle.query<{ readonly currentDetails: string }>('__temporal_workflow_metadata');
  return metadata.currentDetails;
}

function untilCancelled(): Promise<never> {
  return Context.current().cancelled;
}

function openGate() {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(50);
}
