/** `zigzag status|pause|resume|cancel|report RUN`: a run that was started before. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { InputError } from '../../datasets/errors.js';
import { findRun } from '../find-run.js';
import { note, print, printJson } from '../print.js';
import type { RunState } from '../run-state.js';
import { formatCount, formatTable } from '../terminal.js';

const RUN = ['<run>', 'run directory, or its name below runs/'] as const;

export function addRuns(program: Command): void {
  program
    .command('status')
    .description('say where a run stands')
    .argument(...RUN)
    .option('--json', 'end stdout with one JSON object')
    .action(status);
  program
    .command('pause')
    .description('hold a run: its worker writes a checkpoint and gives the device back')
    .argument(...RUN)
    .action(pause);
  program
    .command('resume')
    .description('let a paused run go on')
    .argument(...RUN)
    .action(resume);
  program
    .command('cancel')
    .description('stop a run; what is answered stays, and `zigzag run` starts it again')
    .argument(...RUN)
    .action(cancel);
  program
    .command('report')
    .description('print the report of a run, and where its page is')
    .argument(...RUN)
    .action(report);
}

async function status(reference: string, { json }: { json?: boolean }): Promise<void> {
  const runDir = findRun(reference);
  const { readRunState } = await import('../run-state.js');
  const state = await readRunState(runDir);
  if (json) printJson(state);
  else print(formatTable(stateRows(state), ''));
}

function stateRows(state: RunState): string[][] {
  const { stage, rows, plannedRows, doneShards, plannedShards, report, uiAddress } = state;
  const meanings: Readonly<Record<RunState['stage'], string>> = {
    running: 'running',
    waiting: 'open, and no worker computes it',
    paused: 'paused',
    interrupted: 'begun, and nothing computes it now',
    finished: 'finished',
    failed: 'failed',
    cancelled: 'cancelled',
  };
  const progress = `${formatCount(rows)} of ${formatCount(plannedRows)} rows, ${doneShards} of ${plannedShards} shards`;
  return [
    ['run', state.name],
    ['state', meanings[stage]],
    ['answered', plannedRows === 0 ? 'nothing is planned yet' : progress],
    ['directory', state.runDir],
    ...(report === null ? [] : [['report', report]]),
    ...(uiAddress === null ? [] : [['Temporal', uiAddress]]),
    ...(stage === 'finished' || stage === 'running' ? [] : [['goes on by', state.command]]),
  ];
}

const NOT_OPEN = 'It is not running.';

async function pause(reference: string): Promise<void> {
  const runDir = findRun(reference);
  const { pauseRun } = await import('../run-control.js');
  const told = await pauseRun(runDir, note);
  if (told === undefined) print(NOT_OPEN);
  else if (told === 'unattended') print('No worker computes it; one that comes will find it paused.');
  else print(`Paused. Nothing is lost; this goes on with it:\n  zigzag resume ${reference}`);
}

async function resume(reference: string): Promise<void> {
  const runDir = findRun(reference);
  const { resumeRun } = await import('../run-control.js');
  const told = await resumeRun(runDir, note);
  if (told === undefined) print(`${NOT_OPEN} See: zigzag status ${reference}`);
  else if (told === 'unattended') print(`It goes on as soon as a worker is there. See: zigzag status ${reference}`);
  else print('It goes on.');
}

async function cancel(reference: string): Promise<void> {
  const runDir = findRun(reference);
  const { cancelRun } = await import('../run-control.js');
  const told = await cancelRun(runDir, note);
  print(told === undefined ? NOT_OPEN : 'Cancelled. What is answered is kept; `zigzag run` goes on with the rest.');
}

function report(reference: string): void {
  const runDir = findRun(reference);
  const path = join(runDir, 'report.md');
  if (!existsSync(path)) {
    throw new InputError(`${runDir} has no report yet: the run is not finished; see: zigzag status ${reference}`);
  }
  print(readFileSync(path, 'utf8').trimEnd());
  note(`\nAs a page: ${join(runDir, 'report.html')}`);
}
