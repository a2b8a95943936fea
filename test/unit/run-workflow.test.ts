import { type Client, ServiceError, WorkflowNotFoundError } from '@temporalio/client';
import { describe, expect, it } from 'vitest';
import type { RunFile } from '../../activities/run-file.js';
import type { TemporalConnection } from '../../cli/connection.js';
import { executeRun } from '../../cli/run-workflow.js';

const result = { rows: 3 };

describe('a run that is waited for', () => {
  it('waits on where the server was away for longer than its client tries', async () => {
    const away = new ServiceError('Failed to get Workflow execution history', { cause: new Error('14 UNAVAILABLE') });
    expect(await execute([() => Promise.reject(away), async () => result])).toEqual(result);
  });

  it('says what to do where the server has forgotten it', async () => {
    const unknown = new WorkflowNotFoundError('sql: no rows in result set', 'story-1', undefined);
    await expect(execute([() => Promise.reject(unknown)])).rejects.toThrow(
      /127\.0\.0\.1:7233 does not know the run any more.*the same command starts it again/,
    );
  });
});

/** @param answers of the server to being asked for the result, one after the other. */
async function execute(answers: readonly (() => Promise<unknown>)[]) {
  const rest = [...answers];
  const handle = { workflowId: 'story-1', result: () => rest.shift()!() };
  const client = {
    withAbortSignal: (_: AbortSignal, act: () => Promise<unknown>) => act(),
    workflow: {
      getHandle: () => ({ describe: () => Promise.reject(new Error('not found')) }),
      start: async () => handle,
    },
  } as unknown as Client;
  const temporal: TemporalConnection = {
    client,
    namespace: 'default',
    address: '127.0.0.1:7233',
    isLocal: false,
    uiAddress: undefined,
    hasSearchAttributes: false,
    lost: new Promise<never>(() => {}),
    workflowUrl: () => undefined,
    connectWorker: () => Promise.reject(new Error('workers are elsewhere')),
    close: async () => undefined,
  };
  const file = {
    workflowId: 'story-1',
    fingerprint: 'f',
    command: 'zigzag run story.yaml',
    modelFacts: { file: 'model.gguf', family: 'llama' },
    identity: { model: 'm' },
    pipeline: {
      name: 'story',
      runDir: '/runs/story',
      engine: { device: 'cpu' },
      work: { kind: 'tasks', tasks: [] },
    },
  } as unknown as RunFile;
  return executeRun({
    file,
    temporal,
    cacheDir: '/cache',
    queue: 'elsewhere',
    openEngine: () => Promise.reject(new Error('workers are elsewhere')),
    resolveModel: (reference) => reference,
  });
}
