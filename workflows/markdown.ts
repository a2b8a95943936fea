/** The progress of a run as a person reads it in the Temporal UI. */
import type { RunInput } from '../activities/contracts.js';
import type { Progress } from './progress.js';

const stages: Readonly<Record<Progress['stage'], string>> = {
  planning: 'Reading the source and writing shards of prompts',
  inferring: 'Answering shards',
  paused: 'Paused',
  scoring: 'Scoring and writing the report',
  done: 'Done',
};

/** @param now milliseconds since 1970, of the workflow's own clock. */
export function progressMarkdown(run: RunInput, progress: Progress, now: number): string {
  const { totals, plannedRows, plannedShards, stage } = progress;
  const head = `**${stages[stage]}**: \`${run.name}\` in \`${run.runDir}\``;
  if (plannedShards === 0) return head;
  const reused = totals.reusedShards > 0 ? ` (${totals.reusedShards} were there already)` : '';
  const rows = [
    ['Shards', `${totals.shards} of ${plannedShards}${reused}`],
    ['Rows', `${count(totals.rows)} of ${count(plannedRows)} (${percent(totals.rows, plannedRows)})`],
    ['Rows with an error', count(totals.errors)],
    ['Prompt tokens', count(totals.promptTokens)],
    ['Generated tokens', count(totals.generatedTokens)],
    ...pace(progress, now),
  ];
  return [head, '', '| | |', '| --- | ---: |', ...rows.map(([label, value]) => `| ${label} | ${value} |`)].join('\n');
}

/** Speed and time left, from the rows that were computed: those that were there already took no time. */
function pace({ stage, totals, plannedRows, computedRows, inferringSince }: Progress, now: number): string[][] {
  const seconds = (now - (inferringSince ?? now)) / 1000;
  if (computedRows === 0 || seconds <= 0) return [];
  const rowsPerSecond = computedRows / seconds;
  const speed = ['Speed', `${rowsPerSecond.toPrecision(3)} rows/s`];
  if (stage !== 'inferring') return [speed];
  return [speed, ['Time left', `about ${duration((plannedRows - totals.rows) / rowsPerSecond)}`]];
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '100 %' : `${Math.floor((100 * part) / whole)} %`;
}

/** 1234567 as 1,234,567. */
function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',');
}
