import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stopLocalServer } from '../../cli/temporal-server.js';
import { type RunProcess, startRun } from '../support/run-process.js';
import { partsOf, writeStoryPipeline } from '../support/story-pipeline.js';
import { isolatedEnv, temporaryDirectory } from '../support/temporal.js';

const SHARDS = 12;
const directory = temporaryDirectory();
const env = isolatedEnv(directory);
const pipeline = writeStoryPipeline(directory, { rows: SHARDS * 6, shardRows: 6, maxNewTokens: 100 });
const running = new Set<RunProcess>();

let undisturbed: Readonly<Record<string, string>>;
beforeAll(async () => {
  const runDir = join(directory, 'undisturbed');
  expect(await start(runDir).ended).toMatchObject({ code: 0 });
  undisturbed = partsOf(runDir);
  expect(Object.keys(undisturbed)).toHaveLength(SHARDS);
});
afterAll(async () => {
  for (const { child } of running) child.kill('SIGKILL');
  await stopLocalServer(env);
  rmSync(directory, { recursive: true, force: true });
});

describe('kill -9 in the middle', () => {
  it('of the command, then the same command: the parts are those of an undisturbed run', async () => {
    const runDir = join(directory, 'killed');
    const first = start(runDir);
    await until(() => partCount(runDir) >= 2);
    first.child.kill('SIGKILL');
    await first.ended;
    const survived = partsOf(runDir);
    expect(Object.keys(survived).length).toBeLessThan(SHARDS);

    const { code, result } = await start(runDir).ended;
    expect(code).toBe(0);
    expect(result).toMatchObject({ rows: SHARDS * 6, errors: 0 });
    expect(partsOf(runDir)).toEqual(undisturbed);
    expect(leftovers(runDir)).toEqual([]);
  }, 120_000);

  it('of the Temporal server: the run goes on, and its parts are those of an undisturbed run', async () => {
    const runDir = join(directory, 'serverless');
    const run = start(runDir);
    await until(() => partCount(runDir) >= 2);
    const killed = serverPid();
    process.kill(killed, 'SIGKILL');
    expect(partCount(runDir)).toBeLessThan(SHARDS);
    await until(() => serverPid() !== killed);
    const { code, result, stderr } = await run.ended;
    expect(stderr).not.toMatch(/error/i);
    expect(code).toBe(0);
    expect(result).toMatchObject({ rows: SHARDS * 6, errors: 0 });
    expect(partsOf(runDir)).toEqual(undisturbed);
  }, 120_000);
});

function start(runDir: string): RunProcess {
  const process = startRun([pipeline, '--run-dir', runDir], env);
  running.add(process);
  void process.ended.then(() => running.delete(process));
  return process;
}

function partCount(runDir: string): number {
  const outputs = join(runDir, 'outputs');
  return existsSync(outputs) ? Object.keys(partsOf(runDir)).length : 0;
}

/** What an interrupted writer would leave beside the parts. */
function leftovers(runDir: string): string[] {
  return readdirSync(join(runDir, 'outputs')).filter((name) => !name.endsWith('.parquet'));
}

function serverPid(): number {
  const path = join(directory, 'state', 'zigzag', 'temporal', 'server.json');
  return (JSON.parse(readFileSync(path, 'utf8')) as { readonly pid: number }).pid;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}
