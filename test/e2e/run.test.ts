import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRunFile } from '../../activities/run-file.js';
import { zigzag } from '../support/command.js';
import { writeStoryPipeline } from '../support/story-pipeline.js';
import { openTestTemporal, type TestTemporal } from '../support/temporal.js';

const ROWS = 20;
let server: TestTemporal;
let pipeline: string;
let runDir: string;
let outcome: ReturnType<typeof zigzag>;
beforeAll(async () => {
  server = await openTestTemporal();
  pipeline = writeStoryPipeline(server.directory, { rows: ROWS, shardRows: 8, maxNewTokens: 12 });
  runDir = join(server.directory, 'run');
  outcome = zigzag(['run', pipeline, '--run-dir', runDir, '--json'], server.env);
});
afterAll(async () => {
  await server.close();
  rmSync(server.directory, { recursive: true, force: true });
});

describe('a run of a real model over a table', () => {
  it('ends well and counts its rows', () => {
    expect(outcome).toMatchObject({ code: 0, json: { runDir, rows: ROWS, errors: 0 } });
  });

  it('writes parts that DuckDB reads as one table', async () => {
    const rows = await query(`
      SELECT count(*)::INTEGER AS rows, count(DISTINCT row_id)::INTEGER AS ids, count(error)::INTEGER AS errors,
        sum(completion_tokens)::INTEGER AS tokens, min(length(completion))::INTEGER AS shortest,
        bool_and(starts_with("start", 'Once upon a time')) AS sources, max(logprob) < 0 AS logprobs
      FROM '${runDir}/outputs/*.parquet'`);
    const { tokens, shortest, ...exact } = rows[0]!;
    expect(exact).toEqual({ rows: ROWS, ids: ROWS, errors: 0, sources: true, logprobs: true });
    expect((outcome.json as { tokens: { generated: number } }).tokens.generated).toBe(tokens);
    expect(shortest).toBeGreaterThan(0);
  });

  it('can be found in Temporal by its name and model, and names its directory', async () => {
    const { workflowId } = readRunFile(runDir);
    const found = await firstWorkflow(`ZigzagRun = 'stories'`);
    expect(found).toMatchObject({ workflowId, status: { name: 'COMPLETED' }, memo: { runDir } });
    const history = await server.temporal.client.workflow.getHandle(workflowId).fetchHistory();
    const summaries = (history.events ?? []).flatMap(({ userMetadata }) => {
      const data = userMetadata?.summary?.data;
      return data ? [JSON.parse(Buffer.from(data).toString()) as string] : [];
    });
    expect(summaries).toEqual(
      expect.arrayContaining(['Plan stories', 'stories, shard 1 of 3, 8 rows', 'Score and report stories']),
    );
  });

  it('refuses a policy file that has an unknown key, before anything is started', () => {
    const policy = join(server.directory, 'unknown.json');
    writeFileSync(policy, '{"gpuBatchSise": 3}');
    const words = ['run', pipeline, '--run-dir', join(server.directory, 'refused'), '--set', `engine.policy=${policy}`];
    const { code, stderr } = zigzag(words, server.env);
    expect(code).toBe(2);
    expect(stderr).toContain('unknown.json: unknown key: "gpuBatchSise"; did you mean "gpuBatchSize"');
  });

  it('gives the same tokens from an offload store, by a policy of a file', async () => {
    const offloadDir = join(server.directory, 'offload');
    const limited = join(server.directory, 'limited');
    const policy = join(server.directory, 'policy.json');
    writeFileSync(policy, '{"gpuBatchSize": 3, "weights": {"gpu": 0, "cpu": 0.5, "disk": 0.5}}');
    const engine = ['weightBits=32', 'contextTokens=99', `offloadDir=${offloadDir}`, `policy=${policy}`];
    const settings = engine.flatMap((setting) => ['--set', `engine.${setting}`]);
    const { code } = zigzag(['run', pipeline, '--run-dir', limited, ...settings, '--json'], server.env);
    expect(code).toBe(0);
    expect(readdirSync(offloadDir)).toHaveLength(1);
    const texts = (directory: string) =>
      query(
        `SELECT row_id, completion, completion_tokens, error FROM '${directory}/outputs/*.parquet' ORDER BY row_id`,
      );
    expect(await texts(limited)).toEqual(await texts(runDir));
  });
});

async function query(sql: string) {
  const connection = await (await DuckDBInstance.create()).connect();
  try {
    return (await connection.runAndReadAll(sql)).getRowObjectsJS();
  } finally {
    connection.closeSync();
  }
}

/** Visibility lags behind by a moment. */
async function firstWorkflow(filter: string) {
  for (;;) {
    for await (const execution of server.temporal.client.workflow.list({ query: filter })) return execution;
  }
}
