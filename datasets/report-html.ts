/**
 * `report.html`: one file, no requests, for a person who opens it without knowing anything of the run.
 */

import { answersSection } from './report-answers.js';
import { interval, scoreChart } from './report-chart.js';
import { type Content, type Html, html, trusted } from './report-escape.js';
import {
  type Galleries,
  generationThroughput,
  type ReportFacts,
  recoveredText,
  stepRows,
  tasksOf,
} from './report-facts.js';
import { count, duration, percent, rate } from './report-format.js';
import { reportScript, reportStyle } from './report-style.js';

export function reportHtml(facts: ReportFacts, galleries: Galleries): string {
  const { pipeline } = facts;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>${pipeline.name} · ${pipeline.model} · Zigzag</title>
<style>${trusted(reportStyle)}</style>
</head>
<body>
<main>
${header(facts)}
${tiles(facts)}
${scoresSection(facts)}
${answersSection(facts, galleries)}
${stepsSection(facts)}
${runSection(facts)}
${filesSection(facts)}
<footer>Made by Zigzag. This file is complete in itself and asks the network for nothing.</footer>
</main>
<script>${trusted(reportScript)}</script>
</body>
</html>
`;
  return page.markup;
}

const logo = trusted(
  '<svg class="logo" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true"><rect width="32" height="32" rx="8"/><path d="M9 9h14L9 23h14"/></svg>',
);

function header(facts: ReportFacts): Html {
  const { pipeline, totals, scores } = facts;
  const tasks = tasksOf(facts).length;
  const over = tasks === 0 ? 'of a table' : `of ${count(tasks)} ${tasks === 1 ? 'task' : 'tasks'}`;
  const failed = totals.errors === 0 ? 'without an error' : `${count(totals.errors)} of them with an error`;
  const answered = scores.length === 0 ? 'There was nothing to answer.' : null;
  return html`<header>
<p class="brand">${logo}<span>Zigzag</span><time datetime="${new Date(facts.startedAt).toISOString()}">${utc(facts.startedAt)}</time></p>
<h1>${pipeline.name}</h1>
<p class="lead">${answered ?? html`<b>${shortModel(pipeline.model)}</b> answered ${count(totals.rows)} rows ${over}, ${failed}.`}</p>
</header>`;
}

function tiles(facts: ReportFacts): Html {
  const { totals } = facts;
  const throughput = generationThroughput(totals);
  const recovered = recoveredText(totals);
  const tile = (label: string, value: string, note: Content) =>
    html`<div class="tile"><dt>${label}</dt><dd>${value}</dd><dd class="note">${note}</dd></div>`;
  const errors =
    totals.errors === 0 ? 'no errors' : html`<span class="bad">${count(totals.errors)} with an error</span>`;
  const reused =
    totals.reusedShards === 0
      ? `${count(totals.shards)} ${totals.shards === 1 ? 'shard' : 'shards'}`
      : `${count(totals.reusedShards)} of ${count(totals.shards)} shards were done before`;
  const reads =
    totals.reusedShards > 0 || totals.recovered || totals.seconds <= 0
      ? 'read by the model'
      : `${rate(totals.promptTokens / totals.seconds)} a second`;
  const writes = throughput === null ? 'written by the model' : `${rate(throughput)} a second`;
  return html`<dl class="tiles">
${tile('Rows', count(totals.rows), errors)}
${tile('Prompt tokens', count(totals.promptTokens), reads)}
${tile('Generated tokens', count(totals.generatedTokens), writes)}
${tile('Computing time', duration(totals.seconds), reused)}
</dl>${recovered ? html`<p class="note">Interrupted, and ${recovered}.</p>` : null}`;
}

function scoresSection(facts: ReportFacts): Html | null {
  const scored = facts.scores.filter(({ scores }) => scores.length > 0);
  if (scored.length === 0) return null;
  const guessing = scored.some(({ chance }) => chance !== null);
  const tasks = new Map(tasksOf(facts).map((task) => [task.name, task]));
  const rows = scored.flatMap(({ task, rows, errors, chance, scores }) =>
    scores.map((score) => {
      const range = interval(score);
      return html`<tr><td>${task}</td><td>${tasks.get(task)?.version ?? '–'}</td><td>${score.metric}</td><td>${score.filter}</td>
<td class="n">${tasks.get(task)?.fewshot.count ?? 0}</td><td class="n"><b>${score.value.toFixed(4)}</b></td>
<td class="n">${score.stderr === null ? '–' : score.stderr.toFixed(4)}</td>
<td class="n">${range === null ? '–' : `${percent(range[0])} – ${percent(range[1])}`}</td>
<td class="n">${chance === null ? '–' : percent(chance)}</td><td class="n">${count(rows)}</td>
<td class="n">${errors === 0 ? '0' : html`<span class="bad">${count(errors)}</span>`}</td></tr>`;
    }),
  );
  return html`<section class="card" id="scores">
<h2>Scores</h2>
<p class="hint">Share of right answers. ± is one standard error, the whisker the 95 % interval${guessing ? html`; the dashed line is what guessing would give` : null}.</p>
${scoreChart(scored)}
<details class="more"><summary>All figures</summary><div class="wide"><table>
<thead><tr><th>Task</th><th>Version</th><th>Metric</th><th>Filter</th><th class="n">n-shot</th><th class="n">Value</th><th class="n">Stderr</th><th class="n">95 % interval</th><th class="n">Guessing</th><th class="n">Rows</th><th class="n">Errors</th></tr></thead>
<tbody>${rows}</tbody></table></div>
<p class="hint">Stderr is the sample's standard deviation over √n, as in lm-eval. A row with an error counts as answered wrongly.</p></details>
</section>`;
}

function stepsSection({ steps }: ReportFacts): Html | null {
  if (!steps) return null;
  const rows = stepRows(steps).map(
    ([what, expected, found, off]) => html`<tr><td>${what}</td><td class="n">${expected}</td>
<td class="n">${found}</td><td class="n">${off}</td></tr>`,
  );
  return html`<section class="card" id="steps">
<h2>Expected and measured</h2>
<p class="hint">Seconds of ${count(steps.shards)} ${steps.shards === 1 ? 'shard' : 'shards'}, as the measured machine let expect them for the rows that were computed, and as they were.</p>
<div class="wide"><table><thead><tr><th></th><th class="n">Expected</th><th class="n">Measured</th><th class="n">Off by</th></tr></thead>
<tbody>${rows}</tbody></table></div>
</section>`;
}

function runSection(facts: ReportFacts): Html {
  const { pipeline, modelFacts } = facts;
  const { work, engine, limit, seed } = pipeline;
  const chat = work.kind === 'tasks' ? work.applyChatTemplate : work.prompt.chat;
  const known: readonly (readonly [string, Content])[] = [
    ['Model', html`<code>${pipeline.model}</code>`],
    ...Object.entries(modelFacts).map(([name, value]) => [name, String(value)] as const),
    ['Prompts', chat ? "in the model's chat template" : 'as plain text'],
    ['Engine', `${facts.engineVersion}, ${engine.backend} on ${engine.device}`],
    ['Seed', String(seed)],
    ...(limit === null ? [] : [['Limit', `the first ${count(limit)} rows`] as const]),
    ['Pipeline', html`<code>${pipeline.path}</code>`],
    ['Fingerprint', html`<code>${facts.fingerprint}</code>`],
  ];
  return html`<section class="card" id="run">
<h2>Do it again</h2>
<p class="hint">The same command on the same files gives the same answers; the fingerprint covers everything that can change one.</p>
<pre class="command"><code>${facts.command}</code></pre>
<dl class="facts">${known.map(([name, value]) => html`<div class="${name === 'Fingerprint' ? 'whole' : ''}"><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
</section>`;
}

function filesSection({ parts, sampleFiles }: ReportFacts): Html {
  const link = (path: string, note: string) =>
    html`<li><a href="${path.split('/').map(encodeURIComponent).join('/')}">${path}</a><span>${note}</span></li>`;
  const listed = parts.map((path) => link(path, 'answers, Parquet'));
  const all =
    parts.length > 8
      ? html`<details class="more"><summary>${count(parts.length)} parts</summary><ul class="files">${listed}</ul></details>`
      : html`<ul class="files">${listed}</ul>`;
  return html`<section class="card" id="files">
<h2>Files</h2>
<p class="hint">Every answer is in the parts: one row a request, with its log-probability, tokens, error and source columns. Paths are relative to this report.</p>
<pre class="command"><code>duckdb -c "select task, finish_reason, count(*) from 'outputs/*.parquet' group by all"</code></pre>
<ul class="files">${link('results.json', 'scores, in the keys of lm-eval')}${Object.entries(sampleFiles).map(([task, path]) => link(path, `every row of ${task}, as lm-eval logs it`))}${link('report.md', 'the tables of this page as text')}</ul>
${all}
</section>`;
}

/** The last part of a path or of `owner/name`. */
function shortModel(model: string): string {
  return (
    model
      .replace(/[\\/]+$/, '')
      .split(/[\\/]/)
      .at(-1) ?? model
  );
}

function utc(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}
