/** Where a run stands: kept by the workflow, asked for by the `progress` query. */
import { defineQuery } from '@temporalio/workflow';
import type { ResumedRun, RunProgress, RunTotals, ShardOutcome } from '../activities/contracts.js';

export const progressQuery = defineQuery<RunProgress>('progress');

export interface Progress {
  stage: RunProgress['stage'];
  plannedRows: number;
  plannedShards: number;
  totals: RunTotals;
  /** Rows whose parts were not there already. */
  computedRows: number;
  /** Milliseconds since 1970; undefined until the plan is made. */
  inferringSince: number | undefined;
}

const nothing: RunTotals = {
  rows: 0,
  errors: 0,
  promptTokens: 0,
  generatedTokens: 0,
  seconds: 0,
  shards: 0,
  reusedShards: 0,
};

export function beginProgress(resumed: ResumedRun | undefined): Progress {
  return {
    stage: 'planning',
    plannedRows: 0,
    plannedShards: 0,
    totals: resumed?.totals ?? nothing,
    computedRows: resumed?.computedRows ?? 0,
    inferringSince: resumed?.inferringSince,
  };
}

export function addOutcome(progress: Progress, outcome: ShardOutcome): void {
  const { totals } = progress;
  progress.totals = {
    rows: totals.rows + outcome.rows,
    errors: totals.errors + outcome.errors,
    promptTokens: totals.promptTokens + outcome.promptTokens,
    generatedTokens: totals.generatedTokens + outcome.generatedTokens,
    seconds: totals.seconds + outcome.seconds,
    shards: totals.shards + 1,
    reusedShards: totals.reusedShards + (outcome.reused ? 1 : 0),
    ...addRecovered(totals.recovered, outcome.recovered),
    ...addNotes(totals.notes, outcome.notes),
  };
  if (!outcome.reused) progress.computedRows += outcome.rows;
}

function addRecovered(sum: RunTotals['recovered'], one: ShardOutcome['recovered']): Pick<RunTotals, 'recovered'> {
  if (!sum || !one) return sum || one ? { recovered: (sum ?? one)! } : {};
  const names = Object.keys(one) as (keyof typeof one)[];
  return { recovered: Object.fromEntries(names.map((name) => [name, sum[name] + one[name]])) as unknown as typeof one };
}

/** They travel with every continuation, so there is an end to them. */
const MAX_NOTES = 10;

function addNotes(before: readonly string[] = [], more: readonly string[] = []): Pick<RunTotals, 'notes'> {
  const notes = [...new Set([...before, ...more])].slice(0, MAX_NOTES);
  return notes.length > 0 ? { notes } : {};
}

export function answerQuery({ stage, plannedRows, plannedShards, totals }: Progress): RunProgress {
  return { ...totals, stage, plannedRows, plannedShards, doneShards: totals.shards };
}
