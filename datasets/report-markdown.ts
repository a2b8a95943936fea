/**
 * `report.md`: the table that lm-eval prints, and what the run took.
 */

import {
  generationThroughput,
  type ReportFacts,
  type RunSteps,
  recoveredText,
  stepRows,
  tasksOf,
} from './report-facts.js';
import { count, duration, rate } from './report-format.js';

export function reportMarkdown(facts: ReportFacts): string {
  const { pipeline, totals, scores } = facts;
  const sections = [
    `# ${pipeline.name}`,
    `Model \`${pipeline.model}\`, ${new Date(facts.startedAt).toISOString().slice(0, 16).replace('T', ' ')} UTC.`,
  ];
  if (scores.some((task) => task.scores.length > 0)) sections.push('## Scores', scoreTable(facts));
  if (totals.errors > 0)
    sections.push(
      `${count(totals.errors)} of ${count(totals.rows)} rows have an error; they count as answered wrongly.`,
    );
  sections.push(
    '## Work',
    workTable(facts),
    ...(facts.steps ? ['## Expected and measured', stepTable(facts.steps)] : []),
    '## Again',
    `    ${facts.command}`,
    `Fingerprint \`${facts.fingerprint}\`.`,
  );
  sections.push(
    '## Files',
    [...facts.parts, ...Object.values(facts.sampleFiles)].map((path) => `- \`${path}\``).join('\n'),
  );
  return `${sections.join('\n\n')}\n`;
}

/** As `lm_eval.utils.make_table` writes it. */
function scoreTable(facts: ReportFacts): string {
  const tasks = new Map(tasksOf(facts).map((task) => [task.name, task]));
  const rows = facts.scores.flatMap(({ task, scores }) =>
    [...scores]
      .sort((a, b) => (`${a.metric},${a.filter}` < `${b.metric},${b.filter}` ? -1 : 1))
      .map((score, index) => [
        index === 0 ? task : '',
        index === 0 ? (tasks.get(task)?.version ?? 'N/A') : '',
        score.filter,
        String(tasks.get(task)?.fewshot.count ?? 0),
        score.metric,
        score.higherIsBetter ? '↑' : '↓',
        score.value.toFixed(4),
        '±',
        score.stderr === null ? 'N/A' : score.stderr.toFixed(4),
      ]),
  );
  return table(['Tasks', 'Version', 'Filter', 'n-shot', 'Metric', '', 'Value', '', 'Stderr'], rows, [1, 3, 6, 8]);
}

function workTable({ totals, scores }: ReportFacts): string {
  const rows = [
    ...scores.map(({ task, rows, errors, promptTokens, generatedTokens }) =>
      [task, rows, errors, promptTokens, generatedTokens].map((value) =>
        typeof value === 'number' ? count(value) : value,
      ),
    ),
    ...(scores.length === 1
      ? []
      : [['all', ...[totals.rows, totals.errors, totals.promptTokens, totals.generatedTokens].map(count)]]),
  ];
  const throughput = generationThroughput(totals);
  const reused =
    totals.reusedShards === 0
      ? ''
      : `; ${count(totals.reusedShards)} of ${count(totals.shards)} parts were there already`;
  const speed = throughput === null ? '' : `, ${rate(throughput)} generated tokens a second`;
  const recovered = recoveredText(totals);
  return [
    table(['', 'Rows', 'Errors', 'Prompt tokens', 'Generated tokens'], rows, [1, 2, 3, 4]),
    `Computed in ${duration(totals.seconds)}${speed}${reused}.`,
    ...(recovered ? [`Interrupted, and ${recovered}.`] : []),
    ...(totals.notes ?? []).map((note) => `Note: ${note}.`),
  ].join('\n\n');
}

function stepTable(steps: RunSteps): string {
  return table(['', 'Expected', 'Measured', 'Off by'], stepRows(steps), [1, 2, 3]);
}

function table(
  headers: readonly string[],
  rows: readonly (readonly string[])[],
  rightAligned: readonly number[],
): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')));
  const widths = headers.map((header, column) =>
    Math.max(3, header.length, ...cells.map((row) => row[column]!.length)),
  );
  const line = (row: readonly string[]) =>
    `|${row.map((cell, column) => (rightAligned.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))).join('|')}|`;
  const rule = widths.map((width, column) =>
    rightAligned.includes(column) ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width),
  );
  return [
    `|${headers.map((header, column) => centred(header, widths[column]!)).join('|')}|`,
    line(rule),
    ...cells.map(line),
  ].join('\n');
}

function centred(text: string, width: number): string {
  return text.padStart(text.length + Math.floor((width - text.length) / 2)).padEnd(width);
}
