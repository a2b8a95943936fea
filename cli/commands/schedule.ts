/** `zigzag schedule`: pipelines that Temporal starts by the clock, on `zigzag worker`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { InputError } from '../../datasets/errors.js';
import type { TemporalConnection } from '../connection.js';
import { interruptible } from '../interrupt.js';
import { obtainModel } from '../model-pull.js';
import { collected } from '../options.js';
import { note, print, printJson } from '../print.js';
import type { OverlapName, ScheduleDetails, Timing } from '../schedules.js';
import { formatDuration, formatTable } from '../terminal.js';
import { addPipelineOptions, type PipelineFlags } from './run.js';

const OVERLAPS: readonly OverlapName[] = [
  'skip',
  'buffer-one',
  'buffer-all',
  'cancel-other',
  'terminate-other',
  'allow-all',
];

const overlapOption = (what: string) => new Option('--overlap <policy>', what).choices(OVERLAPS);
const ID = ['<id>', 'id of `zigzag schedule list`'] as const;
const JSON_OPTION = ['--json', 'end stdout with one JSON object'] as const;

export function addSchedule(program: Command): void {
  const schedule = program.command('schedule').description('run pipelines by the clock');

  const create = schedule
    .command('create')
    .description('start a pipeline by the clock, each time in a run directory of its own')
    .argument('<id>', 'what the schedule is to be called')
    .argument('<pipeline>', 'YAML file')
    .option('--cron <expression>', 'five fields, such as "0 3 * * *"; may be repeated', collected)
    .option('--every <interval>', 'such as 6h or "30 minutes", instead of --cron')
    .option('--time-zone <name>', 'of the cron expression, such as Europe/Berlin (default: UTC)')
    .addOption(overlapOption('when the run before has not ended').default('skip'))
    .option('--catchup-window <interval>', 'make up for firings missed meanwhile, if no older', '1 day')
    .option('--runs-dir <dir>', 'where the directories of the runs go (default: that of the pipeline)')
    .option('--no-pause-on-failure', 'go on by the clock after a run that failed')
    .option('--paused', 'create it paused')
    .option('--queue <name>', 'queue of the workers that compute');
  addPipelineOptions(create).action(createSchedule);

  schedule
    .command('list')
    .description('list the schedules')
    .option(...JSON_OPTION)
    .action(list);
  schedule
    .command('describe')
    .description('print a schedule')
    .argument(...ID)
    .option(...JSON_OPTION)
    .action(describe);
  schedule
    .command('trigger')
    .description('fire now, whatever the clock says')
    .argument(...ID)
    .addOption(overlapOption('when a run has not ended, instead of the policy of the schedule'))
    .action(trigger);
  schedule
    .command('pause')
    .description('fire no more until resumed')
    .argument(...ID)
    .option('--note <text>', 'why')
    .action(pause);
  schedule
    .command('resume')
    .description('fire again by the clock')
    .argument(...ID)
    .option('--note <text>', 'why')
    .action(resume);
  schedule
    .command('backfill')
    .description('fire for every time that lies in a span of the past')
    .argument(...ID)
    .requiredOption('--start <time>', 'such as 2026-01-31 or 2026-01-31T03:00:00Z', time)
    .requiredOption('--end <time>', 'likewise', time)
    .addOption(overlapOption('when the run before has not ended').default('buffer-all'))
    .action(backfill);
  schedule
    .command('delete')
    .description('remove a schedule; runs that are under way go on')
    .argument(...ID)
    .action(remove);
}

interface CreateFlags extends PipelineFlags {
  readonly cron?: readonly string[];
  readonly every?: string;
  readonly timeZone?: string;
  readonly overlap: OverlapName;
  readonly catchupWindow: string;
  readonly runsDir?: string;
  readonly pauseOnFailure: boolean;
  readonly paused?: boolean;
  readonly queue?: string;
}

async function createSchedule(id: string, path: string, flags: CreateFlags): Promise<void> {
  const { cron, every, timeZone, overlap, catchupWindow, runsDir, pauseOnFailure, paused = false, queue } = flags;
  const { loadPipeline } = await import('../../datasets/spec.js');
  const overrides = flags.set ?? [];
  const limit = flags.limit === undefined ? {} : { limit: flags.limit };
  const pipeline = loadPipeline(path, { overrides, ...limit, ...(runsDir === undefined ? {} : { runDir: runsDir }) });
  await withSchedules(async (temporal, schedules, signal) => {
    // Now, and not at night.
    await obtainModel(pipeline.model, { signal, report: note });
    const timing = { ...(cron && { cron }), ...(every && { every }), ...(timeZone && { timeZone }) };
    const reference = { path: pipeline.path, overrides, ...limit };
    await schedules.createSchedule(temporal, {
      ...{ id, reference, pipeline, timing, overlap, catchupWindow, pauseOnFailure, paused },
      ...(queue === undefined ? {} : { queue }),
    });
    const { nextTimes } = await schedules.describeSchedule(temporal, id);
    print(`${id} is scheduled${nextTimes[0] ? `; it fires next at ${shown(nextTimes[0])}` : ''}`);
    note(`It is computed by: zigzag worker${queue === undefined ? '' : ` --queue ${queue}`}`);
    if (temporal.isLocal) note('It fires while a local server runs: keep `zigzag worker` running.');
  });
}

async function list({ json }: { json?: boolean }): Promise<void> {
  await withSchedules(async (temporal, { listSchedules }) => {
    const schedules = await listSchedules(temporal);
    if (json) {
      printJson({ schedules });
    } else if (schedules.length === 0) {
      print('No schedules. Create one with: zigzag schedule create ID PIPELINE.yaml --cron "0 3 * * *"');
    } else {
      const rows = schedules.map(({ id, timing, paused, nextTimes, pipeline }) => [
        id,
        timingText(timing),
        paused ? 'paused' : nextTimes[0] ? shown(nextTimes[0]) : 'never',
        pipeline,
      ]);
      print(formatTable([['schedule', 'when', 'next', 'pipeline'], ...rows], ''));
    }
  });
}

async function describe(id: string, { json }: { json?: boolean }): Promise<void> {
  await withSchedules(async (temporal, { describeSchedule }) => {
    const details = await describeSchedule(temporal, id);
    if (json) printJson(details);
    else print(formatTable(detailRows(details), ''));
  });
}

function detailRows(details: ScheduleDetails): string[][] {
  const { nextTimes, recentRuns, running, taken, skipped, missed } = details;
  return [
    ['schedule', details.id],
    ['pipeline', details.pipeline],
    ['runs', details.runsDir],
    ['when', timingText(details.timing)],
    ['state', `${details.paused ? 'paused' : 'active'}${details.note ? ` (${details.note})` : ''}`],
    ['next', nextTimes.slice(0, 3).map(shown).join(', ') || 'never'],
    ['overlap', details.overlap],
    ['catch-up', `of at most ${formatDuration(details.catchupSeconds)}`],
    ['after a failure', details.pauseOnFailure ? 'pauses' : 'goes on'],
    ['queue', details.queue],
    ['fired', `${taken} times, ${skipped} skipped because of overlap, ${missed} missed`],
    ...(running.length === 0 ? [] : [['running', running.join(', ')]]),
    ...recentRuns.map(({ workflowId, takenAt }, i) => [i === 0 ? 'recent' : '', `${shown(takenAt)}  ${workflowId}`]),
  ];
}

async function trigger(id: string, { overlap }: { overlap?: OverlapName }): Promise<void> {
  await withSchedules(async (temporal, { triggerSchedule }) => {
    await triggerSchedule(temporal, id, overlap);
    print(`${id} fires; \`zigzag worker\` computes it`);
  });
}

async function pause(id: string, flags: { note?: string }): Promise<void> {
  await withSchedules((temporal, { pauseSchedule }) => pauseSchedule(temporal, id, flags.note));
  print(`${id} is paused`);
}

async function resume(id: string, flags: { note?: string }): Promise<void> {
  await withSchedules((temporal, { resumeSchedule }) => resumeSchedule(temporal, id, flags.note));
  print(`${id} fires again by the clock`);
}

async function backfill(id: string, span: { start: Date; end: Date; overlap: OverlapName }): Promise<void> {
  if (span.start >= span.end) {
    throw new InputError(`--start ${shown(span.start)} must lie before --end ${shown(span.end)}`);
  }
  await withSchedules((temporal, { backfillSchedule }) => backfillSchedule(temporal, id, span));
  print(`${id} fires for every time from ${shown(span.start)} to ${shown(span.end)}`);
}

async function remove(id: string): Promise<void> {
  await withSchedules((temporal, { deleteSchedule }) => deleteSchedule(temporal, id));
  print(`${id} is deleted`);
}

type Schedules = typeof import('../schedules.js');

/** Temporal's library is loaded, and a server started, only where a schedule is asked for. */
async function withSchedules(
  act: (temporal: TemporalConnection, schedules: Schedules, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const work = async (signal: AbortSignal) => {
    const [{ openConnection }, schedules] = await Promise.all([import('../connection.js'), import('../schedules.js')]);
    const temporal = await openConnection({ signal, report: note });
    try {
      await act(temporal, schedules, signal);
    } finally {
      await temporal.close();
    }
  };
  await interruptible(work, () => note('Stopping; Ctrl-C again leaves at once.'), 'Interrupted.');
}

function time(text: string): Date {
  const date = new Date(text);
  if (!Number.isNaN(date.getTime())) return date;
  throw new InvalidArgumentError('It must be a time, such as 2026-01-31 or 2026-01-31T03:00:00Z.');
}

function timingText({ cron, every, timeZone }: Timing): string {
  const text = cron ? cron.join('; ') : `every ${every}`;
  return timeZone ? `${text} (${timeZone})` : text;
}

/** In UTC, to the second. */
function shown(date: Date): string {
  return date
    .toISOString()
    .replace('T', ' ')
    .replace(/(\.\d+)?Z$/, ' UTC');
}
