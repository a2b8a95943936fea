/**
 * The answers in a report: a list to browse, right and wrong told apart, each row with all that is known of it.
 */
import { type Content, type Html, html } from './report-escape.js';
import { type Galleries, type ReportedTask, type ReportFacts, tasksOf } from './report-facts.js';
import { count } from './report-format.js';
import { shownRows } from './report-gallery.js';
import { choicesOf, type Sample, type TaskScores } from './score.js';

/** Characters of a prompt that a report shows: its end, where the question is. */
const shownPrompt = 4000;
const shownText = 2000;

export function answersSection(facts: ReportFacts, galleries: Galleries): Html | null {
  const shown = facts.scores.filter(({ task }) => (galleries.get(task)?.length ?? 0) > 0);
  if (shown.length === 0) return null;
  const tasks = tasksOf(facts);
  const tabs =
    shown.length === 1
      ? null
      : html`<div class="tabs" role="tablist">${shown.map(
          ({ task }, index) =>
            html`<button type="button" role="tab" data-tab="${index}" aria-selected="${index === 0 ? 'true' : 'false'}">${task}</button>`,
        )}</div>`;
  return html`<section class="card" id="answers">
<h2>Answers</h2>
${tabs}
${shown.map((scores, index) =>
  panel(
    scores,
    index,
    galleries.get(scores.task)!,
    tasks.find(({ name }) => name === scores.task),
  ),
)}
</section>`;
}

type Verdict = 'right' | 'wrong' | 'error' | 'done';

const marks: Readonly<Record<Verdict, string>> = { right: '✓', wrong: '✗', error: '!', done: '·' };
const names: Readonly<Record<Verdict, string>> = { right: 'Right', wrong: 'Wrong', error: 'Errors', done: 'Answered' };

/** By the first filter and the first metric of the task. */
function verdictOf({ answer, judgements }: Sample): Verdict {
  if (answer.error !== null) return 'error';
  const [value] = Object.values(judgements[0]?.values ?? {});
  return value === undefined ? 'done' : value === 1 ? 'right' : 'wrong';
}

function panel(scores: TaskScores, index: number, samples: readonly Sample[], task: ReportedTask | undefined): Html {
  const verdicts = samples.map(verdictOf);
  const kinds = (['right', 'wrong', 'done', 'error'] as const).filter((kind) => verdicts.includes(kind));
  const button = (kind: string, name: string, rows: number) =>
    html`<button type="button" data-filter="${kind}" aria-pressed="${kind === 'all' ? 'true' : 'false'}">${name} <span>${count(rows)}</span></button>`;
  const judgedBy = task === undefined ? null : html` Right and wrong by <code>${task.metrics[0]?.metric ?? ''}</code>.`;
  return html`<div class="panel" data-panel="${index}">
<p class="hint">${whichRows(samples, scores)}${judgedBy}</p>
<div class="tools"><div class="filters" role="group" aria-label="Show">${button('all', 'All', samples.length)}${kinds.map(
    (kind) => button(kind, names[kind], verdicts.filter((verdict) => verdict === kind).length),
  )}</div><input type="search" placeholder="Search the rows shown" aria-label="Search the rows shown"></div>
<div class="rows">
<div class="row-head" aria-hidden="true"><span></span><span>Row</span><span>Question</span><span>${task === undefined ? null : 'Expected'}</span><span>Answer</span></div>
${samples.map((sample, place) => row(sample, verdicts[place]!, task))}
</div>
<p class="empty" hidden>No row matches.</p>
</div>`;
}

function whichRows(samples: readonly Sample[], { rows }: TaskScores): string {
  if (samples.length === rows) return rows === 1 ? 'The only row.' : `All ${count(rows)} rows.`;
  const further = samples.length - shownRows;
  const errors = further === 0 ? '' : ` and ${count(further)} more with an error`;
  return `The first ${count(shownRows)} of ${count(rows)} rows${errors}; all of them are in the files below.`;
}

function row(sample: Sample, verdict: Verdict, task: ReportedTask | undefined): Html {
  const { prompt, answer, judgements } = sample;
  const expected = expectedOf(sample, task);
  const given = judgements[0]?.response ?? answer.completion ?? '';
  return html`
<details class="row ${verdict}" data-verdict="${verdict}">
<summary><span class="mark" title="${names[verdict]}">${marks[verdict]}</span><span class="id">${prompt.rowId.slice(prompt.rowId.indexOf('/') + 1)}</span><span class="text">${question(prompt.prompt)}</span><span class="text">${task === undefined ? null : oneLine(expected ?? '–')}</span><span class="text given">${verdict === 'error' ? answer.error : oneLine(given)}</span></summary>
<div class="body">
${answer.error === null ? null : field('Error', html`<p class="bad">${answer.error}</p>`)}
${field('Prompt', textBlock(prompt.prompt, shownPrompt, 'end'))}
${prompt.options === null ? field('Completion', answer.completion === null ? null : textBlock(answer.completion, shownText, 'start')) : field('Options', optionTable(sample, task))}
${task === undefined || prompt.options !== null || prompt.target === null ? null : field('Expected', textBlock(prompt.target, shownText, 'start'))}
${judgements.length === 0 || answer.error !== null ? null : field('Judged', judgementList(sample))}
${Object.keys(prompt.columns).length === 0 ? null : field('Columns', columnTable(prompt.columns))}
<p class="meta">${prompt.rowId} · ${count(answer.promptTokens)} prompt tokens${prompt.options === null ? html` · ${count(answer.completionTokens)} generated · ended by ${answer.finishReason}` : null}${answer.logprob === null ? null : html` · log-probability ${answer.logprob.toFixed(3)}`}</p>
</div>
</details>`;
}

function expectedOf({ prompt }: Sample, task: ReportedTask | undefined): string | null {
  if (prompt.options === null || prompt.target === null) return prompt.target;
  return choicesOf(prompt, task?.optionPrefix ?? '')[Number(prompt.target)] ?? null;
}

function field(name: string, content: Content): Html | null {
  return content === null ? null : html`<h3>${name}</h3>${content}`;
}

function textBlock(text: string, limit: number, keep: 'start' | 'end'): Html {
  const characters = Array.from(text);
  const hidden = characters.length - limit;
  if (hidden <= 0) return html`<pre>${text}</pre>`;
  const note = html`<i>[${count(hidden)} characters ${keep === 'end' ? 'before' : 'after'} this]</i>`;
  const part = (keep === 'end' ? characters.slice(hidden) : characters.slice(0, limit)).join('');
  return keep === 'end' ? html`<pre>${note}\n${part}</pre>` : html`<pre>${part}\n${note}</pre>`;
}

function optionTable({ prompt, answer, judgements }: Sample, task: ReportedTask | undefined): Html {
  const choices = choicesOf(prompt, task?.optionPrefix ?? '');
  return html`<table class="options"><thead><tr><th></th><th>Option</th><th class="n">Log-likelihood</th></tr></thead><tbody>${choices.map(
    (choice, index) => {
      const notes = [
        String(index) === prompt.target ? 'expected' : null,
        judgements[0]?.response === choice ? 'chosen' : null,
      ];
      return html`<tr><td>${notes.filter((note) => note !== null).join(', ')}</td><td>${choice}</td><td class="n">${answer.optionLogprobs?.[index]?.toFixed(3) ?? '–'}</td></tr>`;
    },
  )}</tbody></table>`;
}

function judgementList({ judgements }: Sample): Html {
  return html`<ul class="judged">${judgements.map(
    ({ filter, response, values }) =>
      html`<li>${filter === 'none' ? null : html`<code>${filter}</code> `}${Object.entries(values).map(
        ([metric, value]) => html`<span class="${value === 1 ? 'good' : 'bad'}">${metric} ${value}</span> `,
      )}<code>${oneLine(response ?? '')}</code></li>`,
  )}</ul>`;
}

function columnTable(columns: Readonly<Record<string, unknown>>): Html {
  return html`<table class="columns"><tbody>${Object.entries(columns).map(
    ([name, value]) =>
      html`<tr><th>${name}</th><td>${shortened(typeof value === 'string' ? value : (JSON.stringify(value) ?? ''))}</td></tr>`,
  )}</tbody></table>`;
}

/** What is asked: the last paragraph of the prompt, without the marks of a chat template. */
function question(prompt: string): string {
  const plain = prompt.replace(/<\|[^|<>]*\|>(?:system|user|assistant)?/g, ' ');
  return oneLine(
    plain
      .split(/\n\s*\n/)
      .filter((part) => part.trim() !== '')
      .at(-1) ?? '',
  );
}

function oneLine(text: string): string {
  return shortened(text.replace(/\s+/g, ' ').trim());
}

function shortened(text: string): string {
  const characters = Array.from(text);
  return characters.length > 240 ? `${characters.slice(0, 239).join('')}…` : text;
}
