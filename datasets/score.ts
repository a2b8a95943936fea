/**
 * The scores of a run: its answers joined with what was asked, judged row by row.
 *
 * Shard by shard: no more than one shard's rows are in memory (and 16 bytes for each row of all, to find doubled ones). A row that has
 * an error instead of an answer counts as answered wrongly, so that a model gains nothing by failing; how many there were
 * is told beside every score.
 */
import { InputError } from './errors.js';
import { compileFilters, type Filter } from './filters.js';
import { chosenOption, compileMetric, type Judge, type Judged, type Mean, meanWithError } from './metrics.js';
import type { AnswerRow, Metric, Metrics, PromptRow } from './rows.js';
import { SeenIds } from './source-ids.js';
import type { Task } from './tasks.js';

/** What scoring needs to know of a task. */
export interface ScoredTask extends Pick<Task, 'name' | 'path' | 'metrics' | 'filters'> {
  /** What joins each option to the question: the task's delimiter, or nothing in a conversation. */
  readonly optionPrefix: string;
}

/** One shard with its part; `part` names the file in errors. */
export interface ShardRows {
  readonly part: string;
  readonly prompts: Iterable<PromptRow>;
  readonly answers: readonly AnswerRow[];
}

/** One row with its answer and what was found of it. */
export interface Sample {
  readonly prompt: PromptRow;
  readonly answer: AnswerRow;
  /** One for each pipeline of filters; none where the row's task is not scored. */
  readonly judgements: readonly Judgement[];
}

export interface Judgement {
  readonly filter: string;
  /** What was compared: the filtered completion, or the text of the option chosen; null where there is an error. */
  readonly response: string | null;
  /** 1 or 0 for each metric, in the order of the task. */
  readonly values: Readonly<Record<string, number>>;
}

export interface Score extends Metric {
  readonly metric: string;
  readonly filter: string;
  readonly higherIsBetter: boolean;
}

export interface TaskScores {
  readonly task: string;
  readonly rows: number;
  readonly errors: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Share of right answers that guessing would give; null where there are no options. */
  readonly chance: number | null;
  /** Empty where the task is not scored. */
  readonly scores: readonly Score[];
}

/**
 * @param tasks rows of other tasks are counted and not judged.
 * @returns the scores of each task, in the order in which the tasks are first met.
 * @throws InputError naming the part, where a row is missing, doubled, or answers another prompt.
 */
export async function scoreRun(
  tasks: readonly ScoredTask[],
  shards: Iterable<ShardRows> | AsyncIterable<ShardRows>,
  onSample: (sample: Sample) => void = () => {},
): Promise<TaskScores[]> {
  const accounts = new Map<string, Account>();
  const seen = new SeenIds();
  let rows = 0;
  for await (const { part, prompts, answers } of shards) {
    for (const { prompt, answer } of joined(prompts, answers, part)) {
      if (seen.add(prompt.rowId, rows) !== undefined)
        throw mismatch(part, `row ${prompt.rowId} is in another part as well`);
      rows += 1;
      let account = accounts.get(prompt.task);
      if (account === undefined) {
        account = openAccount(
          prompt.task,
          tasks.find(({ name }) => name === prompt.task),
        );
        accounts.set(prompt.task, account);
      }
      onSample({ prompt, answer, judgements: account.add(prompt, answer, part) });
    }
  }
  return Array.from(accounts.values(), (account) => account.result());
}

/** Scores by task and metric; a metric after a filter other than the default carries the filter's name: `metric,filter`. */
export function metricsOf(scores: readonly TaskScores[]): Metrics {
  return Object.fromEntries(
    scores.map(({ task, scores }) => [
      task,
      Object.fromEntries(
        scores.map(({ metric, filter, value, stderr, n }) => [
          filter === 'none' ? metric : `${metric},${filter}`,
          { value, stderr, n },
        ]),
      ),
    ]),
  );
}

/** The options of a row as its task names them: without what joins them to the question. */
export function choicesOf(prompt: PromptRow, optionPrefix: string): readonly string[] {
  return (prompt.options ?? []).map((option) =>
    option.startsWith(optionPrefix) ? option.slice(optionPrefix.length) : option,
  );
}

interface Account {
  add(prompt: PromptRow, answer: AnswerRow, part: string): Judgement[];
  result(): TaskScores;
}

interface Pipeline {
  readonly name: string;
  readonly filter: Filter;
  readonly metrics: readonly {
    readonly name: string;
    readonly higherIsBetter: boolean;
    readonly judge: Judge;
    readonly mean: Mean;
  }[];
}

function openAccount(name: string, task: ScoredTask | undefined): Account {
  const pipelines = task === undefined ? [] : pipelinesOf(task);
  let rows = 0;
  let errors = 0;
  let promptTokens = 0;
  let generatedTokens = 0;
  const rowsByOptions = new Map<number, number>();
  return {
    add(prompt, answer, part) {
      rows += 1;
      if (answer.error !== null) errors += 1;
      promptTokens += answer.promptTokens;
      generatedTokens += answer.completionTokens;
      const options = prompt.options?.length ?? 0;
      if (options > 0) rowsByOptions.set(options, (rowsByOptions.get(options) ?? 0) + 1);
      return task === undefined ? [] : pipelines.map((pipeline) => judged({ task, pipeline, prompt, answer, part }));
    },
    result: () => ({
      task: name,
      rows,
      errors,
      promptTokens,
      generatedTokens,
      chance: chanceOf(rowsByOptions),
      scores: pipelines.flatMap(({ name: filter, metrics }) =>
        metrics.map(({ name: metric, higherIsBetter, mean }) => ({ metric, filter, higherIsBetter, ...mean.result() })),
      ),
    }),
  };
}

/** In the order of the options, so that the sum does not depend on the order of the rows. */
function chanceOf(rowsByOptions: ReadonlyMap<number, number>): number | null {
  const groups = [...rowsByOptions].sort(([a], [b]) => a - b);
  const rows = groups.reduce((sum, [, count]) => sum + count, 0);
  return rows === 0 ? null : groups.reduce((sum, [options, count]) => sum + count / options, 0) / rows;
}

function pipelinesOf({ path, metrics, filters }: ScoredTask): Pipeline[] {
  return filters.map(({ name, filters: steps }) => ({
    name,
    filter: compileFilters(steps, path),
    metrics: metrics.map((spec) => ({
      name: spec.metric,
      higherIsBetter: spec.higherIsBetter,
      judge: compileMetric(spec, path),
      mean: meanWithError(),
    })),
  }));
}

interface Row {
  readonly task: ScoredTask;
  readonly pipeline: Pipeline;
  readonly prompt: PromptRow;
  readonly answer: AnswerRow;
  readonly part: string;
}

function judged(row: Row): Judgement {
  const compared = row.answer.error === null ? comparable(row) : null;
  const values = row.pipeline.metrics.map(({ name, judge, mean }) => {
    const value = compared === null ? 0 : judge(compared);
    mean.add(value);
    return [name, value] as const;
  });
  const response = compared === null ? null : responseOf(compared, row.task);
  return { filter: row.pipeline.name, response, values: Object.fromEntries(values) };
}

function comparable({ task, pipeline, prompt, answer, part }: Row): Judged {
  const { rowId, target, options } = prompt;
  if (target === null) {
    throw new InputError(
      `${task.path}: row ${rowId} has no target to compare with; doc_to_target needs a value in every row`,
    );
  }
  if (options === null) return { kind: 'generate', response: pipeline.filter(answer.completion ?? ''), target };
  const optionLogprobs = answer.optionLogprobs ?? [];
  if (optionLogprobs.length !== options.length) {
    throw mismatch(part, `row ${rowId} has ${options.length} options and ${optionLogprobs.length} log-likelihoods`);
  }
  const choices = choicesOf(prompt, task.optionPrefix);
  return { kind: 'score', optionLogprobs, choices, target: /^\d+$/.test(target) ? Number(target) : -1 };
}

function responseOf(row: Judged, { metrics }: ScoredTask): string | null {
  if (row.kind === 'generate') return row.response;
  return row.choices[chosenOption(metrics[0]?.metric === 'acc_norm' ? 'acc_norm' : 'acc', row)] ?? null;
}

function* joined(
  prompts: Iterable<PromptRow>,
  answers: readonly AnswerRow[],
  part: string,
): Iterable<{ readonly prompt: PromptRow; readonly answer: AnswerRow }> {
  const byId = new Map(answers.map((answer) => [answer.rowId, answer]));
  if (byId.size !== answers.length) {
    const ids = answers.map(({ rowId }) => rowId);
    throw mismatch(part, `row ${ids.find((id, index) => ids.indexOf(id) !== index)} is there twice`);
  }
  for (const prompt of prompts) {
    const answer = byId.get(prompt.rowId);
    if (answer === undefined) throw mismatch(part, `row ${prompt.rowId} is missing or there twice in the shard`);
    if (answer.promptSha256 !== prompt.promptSha256) throw mismatch(part, `row ${prompt.rowId} answers another prompt`);
    byId.delete(prompt.rowId);
    yield { prompt, answer };
  }
  for (const rowId of byId.keys()) throw mismatch(part, `row ${rowId} was not asked in its shard`);
}

function mismatch(part: string, problem: string): InputError {
  return new InputError(`${part}: ${problem}; delete this part and run the same command again to compute it anew`);
}
