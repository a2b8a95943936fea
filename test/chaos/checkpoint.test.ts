import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { runJson } from '../../cli/summary.js';
import { stopLocalServer } from '../../cli/temporal-server.js';
import { type RunProcess, startRun } from '../support/run-process.js';
import { partsOf, writeStoryPipeline } from '../support/story-pipeline.js';
import { isolatedEnv, temporaryDirectory } from '../support/temporal.js';

const ROWS = 150;
/** Sequences computed together: the engine's default. */
const GPU_BATCH_SIZE = 64;
const directory = temporaryDirectory();
const env = isolatedEnv(directory);
// One shard, so that whatever is kept of it is kept by checkpoints.
const pipeline = writeStoryPipeline(directory, { rows: ROWS, shardRows: ROWS, maxNewTokens: 200 });
const running = new Set<RunProcess>();

let undisturbed: Readonly<Record<string, string>>;
beforeAll(async () => {
  const runDir = join(directory, 'undisturbed');
  expect(await start(runDir).ended).toMatchObject({ code: 0, result: { recovered: null, notes: [] } });
  undisturbed = partsOf(runDir);
  expect(readdirSync(runDir)).not.toContain('checkpoints');
});
afterAll(async () => {
  for (const { child } of running) child.kill('SIGKILL');
  await stopLocalServer(env);
  rmSync(directory, { recursive: true, force: true });
});

describe('in the middle of a shard', () => {
  it('kill -9, then the same command: at most one period of checkpoints is computed again', async () => {
    const runDir = join(directory, 'killed');
    const first = start(runDir);
    await until(() => newestManifest(runDir) >= 3);
    first.child.kill('SIGKILL');
    await first.ended;
    expect(existsSync(join(runDir, 'outputs'))).toBe(false);

    const { code, result, stderr } = await start(runDir).ended;
    expect(code).toBe(0);
    const { recovered } = result as ReturnType<typeof runJson>;
    const { answers, sequences, tokensKept, sweepsAgain, periodSweeps, generatedTokensAgain } = recovered!;
    process.stdout.write(`recovered ${JSON.stringify(recovered)}\n`);
    expect(answers + sequences).toBeGreaterThanOrEqual(GPU_BATCH_SIZE);
    expect(tokensKept).toBeGreaterThan(0);
    expect(sweepsAgain).toBeLessThanOrEqual(periodSweeps);
    expect(generatedTokensAgain).toBeLessThanOrEqual(periodSweeps * GPU_BATCH_SIZE);
    expect(stderr).toMatch(new RegExp(`stories, shard 1: resumed [\\d,]+ of ${ROWS} sequences`));
    expect(stderr).toContain('one shard went on in the middle');
    expect(partsOf(runDir)).toEqual(undisturbed);
    expect(readdirSync(runDir)).not.toContain('checkpoints');
    const { zigzag } = JSON.parse(readFileSync(join(runDir, 'results.json'), 'utf8'));
    expect(zigzag.recovered).toEqual(recovered);
  }, 180_000);

  it('Ctrl-C, then the same command: nothing is computed again', async () => {
    const runDir = join(directory, 'interrupted');
    const first = start(runDir);
    await until(() => newestManifest(runDir) >= 1);
    first.child.kill('SIGINT');
    expect((await first.ended).code).toBe(130);

    const { code, result } = await start(runDir).ended;
    expect(code).toBe(0);
    const { recovered } = result as ReturnType<typeof runJson>;
    expect(recovered).toMatchObject({ sweepsAgain: 0, promptTokensAgain: 0, generatedTokensAgain: 0 });
    expect(partsOf(runDir)).toEqual(undisturbed);
  }, 180_000);

  it.each([
    ['while another computes the shard', (runDir: string, owner: string) => hasOtherOwner(runDir, owner)],
    ['when another has written the part', (runDir: string) => hasPart(runDir)],
  ])(
    'SIGSTOP past the heartbeat timeout, then SIGCONT %s: the zombie writes nothing',
    async (_, comesBack) => {
      const runDir = join(directory, `stopped-${comesBack.length}`);
      const zombie = start(runDir);
      await until(() => newestManifest(runDir) >= 2);
      zombie.child.kill('SIGSTOP');
      const [owner = ''] = owners(runDir);

      const other = start(runDir);
      await until(() => comesBack(runDir, owner));
      zombie.child.kill('SIGCONT');
      const seen = new Set<string>();
      await until(() => {
        for (const name of owners(runDir)) seen.add(name);
        return hasPart(runDir);
      });
      const part = state(join(runDir, 'outputs', '00000.parquet'));
      const { code, result } = await other.ended;
      expect(code).toBe(0);
      const { recovered } = result as ReturnType<typeof runJson>;
      expect(recovered!.sweepsAgain).toBeLessThanOrEqual(recovered!.periodSweeps);
      // It is told the result as any other command that joined the run.
      expect(await zombie.ended).toMatchObject({ code: 0, result: { rows: ROWS, errors: 0 } });
      expect(seen).not.toContain(owner);
      expect(partsOf(runDir)).toEqual(undisturbed);
      expect(state(join(runDir, 'outputs', '00000.parquet'))).toEqual(part);
      expect(readdirSync(join(runDir, 'outputs'))).toEqual(['00000.parquet']);
      expect(readdirSync(runDir)).not.toContain('checkpoints');
    },
    180_000,
  );
});

function start(runDir: string): RunProcess {
  const process = startRun([pipeline, '--run-dir', runDir], env);
  running.add(process);
  void process.ended.then(() => running.delete(process));
  return process;
}

function owners(runDir: string): string[] {
  return namesIn(join(runDir, 'checkpoints', '00000'));
}

/** None where the directory is not there, or no longer. */
function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Number of the newest complete checkpoint; 0 where there is none. */
function newestManifest(runDir: string): number {
  const names = owners(runDir).flatMap((owner) => namesIn(join(runDir, 'checkpoints', '00000', owner)));
  return Math.max(0, ...names.map((name) => Number(/^manifest-(\d+)\.json$/.exec(name)?.[1] ?? 0)));
}

function hasOtherOwner(runDir: string, owner: string): boolean {
  return owners(runDir).some((name) => name !== owner);
}

function hasPart(runDir: string): boolean {
  return existsSync(join(runDir, 'outputs', '00000.parquet'));
}

/** What a write to a file would change. */
function state(path: string): readonly number[] {
  const { ino, size, mtimeMs } = statSync(path);
  return [ino, size, mtimeMs];
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}
