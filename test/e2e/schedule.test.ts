import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkflowFailedError } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunningWorker } from '../../activities/worker.js';
import { cacheDirectory } from '../../cli/bootstrap.js';
import {
  backfillSchedule,
  createSchedule,
  deleteSchedule,
  describeSchedule,
  listSchedules,
  type NewSchedule,
  pauseSchedule,
  resumeSchedule,
  triggerSchedule,
} from '../../cli/schedules.js';
import { startEmbeddedWorker } from '../../cli/worker.js';
import { InputError } from '../../datasets/errors.js';
import { loadPipeline } from '../../datasets/spec.js';
import { FIXTURES } from '../support/golden.js';
import { openHashEngine } from '../support/hash-engine.js';
import { openTestTemporal, type TestTemporal } from '../support/temporal.js';

const QUEUE = 'scheduled';
let server: TestTemporal;
let worker: RunningWorker;
beforeAll(async () => {
  server = await openTestTemporal();
  worker = await startEmbeddedWorker({
    temporal: server.temporal,
    queue: QUEUE,
    cacheDir: cacheDirectory(),
    openEngine: async () => openHashEngine(),
    resolveModel: () => join(FIXTURES, 'stories260k'),
  });
});
afterAll(async () => {
  await worker.shutdown();
  await server.close();
});

describe('a schedule', () => {
  it('fires by the clock, each time in a run directory of its own', async () => {
    const { temporal } = server;
    const schedule = newSchedule('often', { timing: { every: '2s' } });
    await createSchedule(temporal, schedule);
    const { runDir } = schedule.pipeline;
    await until(() => finishedRuns(runDir).length >= 2);
    await deleteSchedule(temporal, 'often');
    const names = finishedRuns(runDir);
    for (const name of names) expect(name).toMatch(/^\d{4}-\d\d-\d\dT\d{6}Z$/);
    for (const name of names) expect(readdirSync(join(runDir, name, 'outputs'))).toEqual(['00000.parquet']);
    // The server's lists lag behind what it does.
    await until(async () => (await listSchedules(temporal)).length === 0);
  });

  it('says when it fires next, and keeps what it was told', async () => {
    const { temporal } = server;
    const timing = { cron: ['0 3 * * *'], timeZone: 'Europe/Berlin' };
    await createSchedule(temporal, newSchedule('nightly', { timing, overlap: 'buffer-one', catchupWindow: '2 hours' }));
    const details = await describeSchedule(temporal, 'nightly');
    expect(details).toMatchObject({
      timing,
      overlap: 'buffer-one',
      catchupSeconds: 7200,
      pauseOnFailure: true,
      paused: false,
      queue: QUEUE,
      taken: 0,
    });
    const [next] = details.nextTimes;
    const hour = new Intl.DateTimeFormat('en', { timeZone: 'Europe/Berlin', hour: 'numeric', hourCycle: 'h23' });
    expect(hour.format(next)).toBe('03');

    await pauseSchedule(temporal, 'nightly', 'the machine is on holiday');
    await until(async () => (await listSchedules(temporal)).some(({ paused }) => paused));
    expect((await listSchedules(temporal))[0]).toMatchObject({ id: 'nightly', note: 'the machine is on holiday' });
    await resumeSchedule(temporal, 'nightly');
    expect(await describeSchedule(temporal, 'nightly')).toMatchObject({ paused: false });
    await deleteSchedule(temporal, 'nightly');
  });

  it('fires when it is told to, and for times that have passed', async () => {
    const { temporal } = server;
    const schedule = newSchedule('by-hand', { timing: { cron: ['0 3 1 1 *'] } });
    await createSchedule(temporal, schedule);
    await triggerSchedule(temporal, 'by-hand');
    const { runDir } = schedule.pipeline;
    await until(() => finishedRuns(runDir).length === 1);
    await backfillSchedule(temporal, 'by-hand', {
      start: new Date('2024-06-01T00:00:00Z'),
      end: new Date('2026-06-01T00:00:00Z'),
    });
    await until(() => finishedRuns(runDir).length === 3);
    expect(finishedRuns(runDir).slice(0, 2)).toEqual(['2025-01-01T030000Z', '2026-01-01T030000Z']);
    await deleteSchedule(temporal, 'by-hand');
  });

  it('is paused after a run that failed, which says why', async () => {
    const { temporal } = server;
    const schedule = newSchedule('broken', { timing: { every: '2s' } });
    writeFileSync(schedule.reference.path, 'model: stories260k\nsuorce: { path: lines.csv }\n');
    await createSchedule(temporal, schedule);
    await until(async () => (await describeSchedule(temporal, 'broken')).paused);
    const { note, recentRuns } = await describeSchedule(temporal, 'broken');
    expect(note).toContain('paused due to workflow failure');
    const failure = await temporal.client.workflow
      .getHandle(recentRuns[0]!.workflowId)
      .result()
      .catch((error: unknown) => error);
    expect((failure as WorkflowFailedError).cause?.message).toMatch(/broken\.yaml:2: .*"suorce".*"source"/);
    await deleteSchedule(temporal, 'broken');
  });

  it.each([
    ['a cron expression of four fields', { cron: ['0 3 * *'] }, /five fields/],
    ['a time zone that does not exist', { cron: ['0 3 * * *'], timeZone: 'Europe/Berlni' }, /Berlni/],
    ['an interval without a unit that is known', { every: '6 fortnights' }, /interval/],
    ['no time at all', {}, /--cron .* or --every/],
  ])('is refused with %s', async (_, timing, message) => {
    const creating = createSchedule(server.temporal, newSchedule('refused', { timing }));
    await expect(creating).rejects.toThrow(InputError);
    await expect(creating).rejects.toThrow(message);
  });

  it('that is taken or unknown is named', async () => {
    const { temporal } = server;
    await createSchedule(temporal, newSchedule('weekly', { timing: { every: '7 days' } }));
    await expect(createSchedule(temporal, newSchedule('weekly', { timing: { every: '7 days' } }))).rejects.toThrow(
      /there is a schedule weekly already/,
    );
    await expect(pauseSchedule(temporal, 'wekly')).rejects.toThrow(/no schedule "wekly"; did you mean weekly\?/);
    await deleteSchedule(temporal, 'weekly');
  });
});

function newSchedule(id: string, settings: Pick<NewSchedule, 'timing'> & Partial<NewSchedule>): NewSchedule {
  const path = join(server.directory, `${id}.yaml`);
  writeFileSync(join(server.directory, 'lines.csv'), 'input\nOnce\nTwice\n');
  writeFileSync(path, 'model: stories260k\nsource: { path: lines.csv }\nprompt: { template: "{{ input }}" }\n');
  const pipeline = loadPipeline(path, { runDir: join(server.directory, 'runs', id) });
  return { id, reference: { path, overrides: [] }, pipeline, queue: QUEUE, ...settings };
}

/** By name, which is by time. */
function finishedRuns(runsDir: string): string[] {
  if (!existsSync(runsDir)) return [];
  return readdirSync(runsDir)
    .filter((name) => existsSync(join(runsDir, name, 'results.json')))
    .sort();
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(100);
}
