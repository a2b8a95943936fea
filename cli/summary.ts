/** The end of a run: its last screen for people, its last line for scripts. */
import { isAbsolute, join, relative, resolve } from 'node:path';
import type { RunResult } from '../activities/contracts.js';
import { recoveredText } from '../datasets/report-facts.js';
import type { Metrics } from '../datasets/rows.js';
import { coloursFor, formatCount, formatDuration, formatTable, type Output } from './terminal.js';

export interface SummaryContext {
  /** Of the workflow in the Temporal UI, where it is known. */
  readonly uiAddress?: string | undefined;
  /** Whether the UI goes away with the command. */
  readonly uiStops?: boolean;
  /** Decides about colours. */
  readonly out: Output;
}

/** The last line of `run --json`: a contract, scripts depend on it. Paths are absolute. */
export function runJson(result: RunResult) {
  return {
    runDir: result.runDir,
    rows: result.rows,
    errors: result.errors,
    outputs: result.outputs.map((path) => resolve(result.runDir, path)),
    metrics: result.metrics,
    tokens: { prompt: result.promptTokens, generated: result.generatedTokens },
    seconds: result.seconds,
    generationThroughput: throughput(result),
    recovered: result.recovered ?? null,
    notes: result.notes ?? [],
  };
}

/** Scores, figures, and where everything lies. */
export function runSummary(result: RunResult, { uiAddress, uiStops, out }: SummaryContext): string {
  const colours = coloursFor(out);
  const scores = scoreRows(result.metrics);
  const recovered = recoveredText(result);
  const [header, ...rows] = formatTable([['task', 'metric', 'value', '\u00b1 stderr', 'rows'], ...scores]).split('\n');
  return [
    '',
    ...(scores.length === 0 ? [] : [colours.dim(header ?? ''), ...rows, '']),
    `  ${figures(result)}`,
    ...(recovered ? [`  ${recovered}`] : []),
    ...(result.notes ?? []).map((note) => colours.yellow(`  ${note}`)),
    ...(result.errors === 0
      ? []
      : [colours.yellow(`  ${counted(result.errors, 'row')} could not be answered: see the column "error"`)]),
    '',
    `  ${colours.dim('outputs ')}  ${shortened(outputsDirectory(result))} (${counted(result.outputs.length, 'Parquet file')})`,
    `  ${colours.dim('report  ')}  ${colours.cyan(shortened(join(result.runDir, 'report.html')))}`,
    ...(uiAddress ? [`  ${colours.dim('Temporal')}  ${colours.cyan(uiAddress)}`] : []),
    ...(uiAddress && uiStops ? [colours.dim('            (zigzag ui shows it again)')] : []),
    '',
  ].join('\n');
}

/** Generated tokens a second of computing; null where some were there already: those took none of these seconds. */
function throughput({ generatedTokens, seconds, reusedShards, recovered }: RunResult): number | null {
  return reusedShards === 0 && !recovered && seconds > 0 ? generatedTokens / seconds : null;
}

function figures(result: RunResult): string {
  const { rows, promptTokens, generatedTokens, seconds, shards, reusedShards } = result;
  const tokens = `${formatCount(promptTokens)} prompt and ${formatCount(generatedTokens)} generated tokens`;
  if (shards === 0) return 'no rows: there was nothing to answer';
  if (reusedShards === shards) return `${counted(rows, 'row')}, ${tokens}: all answered before, nothing was left to do`;
  const time = formatDuration(seconds);
  if (reusedShards > 0) {
    return `${counted(rows, 'row')}, ${tokens}; ${reusedShards} of ${counted(shards, 'shard')} were there already, the rest took ${time}`;
  }
  if (result.recovered) return `${counted(rows, 'row')}, ${tokens} in ${time}`;
  const rate = `${formatCount((promptTokens + generatedTokens) / Math.max(seconds, 1e-3))} tokens/s`;
  return `${counted(rows, 'row')}, ${tokens} in ${time} (${rate})`;
}

function scoreRows(metrics: Metrics): string[][] {
  return Object.entries(metrics).flatMap(([task, byName]) =>
    Object.entries(byName).map(([name, { value, stderr, n }], i) => [
      i === 0 ? task : '',
      name,
      value.toFixed(4),
      stderr === null ? '' : `\u00b1 ${stderr.toFixed(4)}`,
      formatCount(n),
    ]),
  );
}

function outputsDirectory({ runDir, outputs }: RunResult): string {
  return outputs[0] === undefined ? runDir : join(resolve(runDir, outputs[0]), '..');
}

/** A path below the current directory as people would type it. */
function shortened(path: string): string {
  const near = relative(process.cwd(), path);
  return near === '' || near.startsWith('..') || isAbsolute(near) ? path : near;
}

function counted(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}
