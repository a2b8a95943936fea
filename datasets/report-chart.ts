/**
 * The chart of scores: one line a score, with its 95 % interval and the share that guessing would give.
 *
 * Positions are percentages, so the chart is as wide as its page and its text stays readable.
 */
import { type Html, html } from './report-escape.js';
import { percent } from './report-format.js';
import type { Score, TaskScores } from './score.js';

/** Standard errors on each side of a mean that hold 95 % of a normal distribution. */
const z95 = 1.96;

/** The 95 % interval of a score, within 0 and 1; null where its error is not known. */
export function interval({
  value,
  stderr,
}: Pick<Score, 'value' | 'stderr'>): readonly [low: number, high: number] | null {
  return stderr === null ? null : [Math.max(0, value - z95 * stderr), Math.min(1, value + z95 * stderr)];
}

export function scoreChart(tasks: readonly TaskScores[]): Html {
  const lines = tasks.flatMap((task) => task.scores.map((score) => chartLine(task, score)));
  return html`<div class="chart" role="table" aria-label="Scores">${lines}
<div class="chart-line chart-axis" aria-hidden="true"><div></div><div class="ticks">${[0, 25, 50, 75, 100].map(
    (tick) => html`<span style="left:${tick}%">${tick}</span>`,
  )}</div><div></div></div></div>`;
}

function chartLine({ task, chance }: TaskScores, score: Score): Html {
  const { metric, filter, value, stderr } = score;
  const error = stderr === null ? null : html` <span class="error">± ${(100 * stderr).toFixed(1)}</span>`;
  return html`
<div class="chart-line" role="row">
<div class="chart-label" role="cell"><b>${task}</b><span>${metric}${filter === 'none' ? null : html` · ${filter}`}</span></div>
<div class="chart-plot" role="cell">${plot(score, chance)}</div>
<div class="chart-value" role="cell"><b>${percent(value)}</b>${error}</div>
</div>`;
}

function plot(score: Score, chance: number | null): Html {
  const range = interval(score);
  const said = range === null ? '' : `, 95 % interval ${percent(range[0])} to ${percent(range[1])}`;
  return html`<svg role="img" width="100%" height="40" aria-label="${percent(score.value)}${said}">
<title>${score.metric}: ${percent(score.value)}${said}</title>
${[0, 25, 50, 75, 100].map((tick) => html`<line class="grid" x1="${tick}%" x2="${tick}%" y1="0" y2="40"/>`)}
<rect class="track" x="0" y="15" width="100%" height="10" rx="5"/>
<rect class="bar" x="0" y="15" width="${at(score.value)}" height="10" rx="5"/>
${chance === null ? null : html`<line class="chance" x1="${at(chance)}" x2="${at(chance)}" y1="6" y2="34"><title>guessing: ${percent(chance)}</title></line>`}
${range === null ? null : whisker(range)}
<circle class="dot" cx="${at(score.value)}" cy="20" r="6"/>
</svg>`;
}

function whisker([low, high]: readonly [number, number]): Html {
  const cap = (x: number) => html`<line class="whisker" x1="${at(x)}" x2="${at(x)}" y1="13" y2="27"/>`;
  return html`<line class="whisker" x1="${at(low)}" x2="${at(high)}" y1="20" y2="20"/>${cap(low)}${cap(high)}`;
}

function at(share: number): string {
  return `${(100 * share).toFixed(2)}%`;
}
