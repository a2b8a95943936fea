/**
 * From a pipeline to its requests: rows read, prompts rendered, and their tokens counted, as a stream.
 *
 * A mistake that concerns every row (a template, a missing column, an id that is there twice) is an InputError; a row that
 * cannot be asked becomes a request with an `error`.
 */
import { createHash } from 'node:crypto';
import { InputError } from './errors.js';
import { openExamples } from './fewshot.js';
import { checkColumns, compileTemplate, renderChat, type Values } from './prompt.js';
import { type Question, taskQuestions } from './requests-task.js';
import type { Ask, PromptRow } from './rows.js';
import { openSource, type SourceRow, type SourceSpec } from './source.js';
import { SeenIds } from './source-ids.js';
import type { Pipeline, TableWork, TaskWork } from './spec.js';
import type { Task } from './tasks.js';

export interface PromptRequest {
  readonly row: PromptRow;
  readonly ask: Ask;
}

/** What has to be known of the model; datasets know no tokenizer. */
export interface ModelText {
  /** null where the model has none. */
  readonly chatTemplate: string | null;
  readonly bosToken: string;
  readonly eosToken: string;
  countTokens(texts: readonly string[]): Promise<readonly number[]>;
}

/** Texts are counted in groups, since a tokenizer is faster on many. */
const countedTogether = 128;
/** After so many rows without a column that is needed, the column is missing from all. */
const rowsToTry = 100;

/** Requests task by task, in the order of the source. */
export async function* promptRows(
  pipeline: Pipeline,
  model: ModelText,
): AsyncGenerator<PromptRequest, void, undefined> {
  const { work } = pipeline;
  if (work.kind === 'table') {
    yield* counted(
      tableRows(pipeline, work, model),
      { kind: 'generate', ...work.generate, seed: pipeline.seed },
      model,
    );
    return;
  }
  for (const task of work.tasks) {
    const ask: Ask =
      task.outputType === 'multiple_choice'
        ? { kind: 'score' }
        : { kind: 'generate', ...task.generation, seed: pipeline.seed };
    yield* counted(taskRows(pipeline, work, task, model), ask, model);
  }
}

async function* tableRows(pipeline: Pipeline, work: TableWork, model: ModelText) {
  const template = compileTemplate(work.prompt.template, work.prompt.where);
  const wanted = work.id === null ? pipeline.columns : [work.id, ...pipeline.columns];
  const ask = (values: Values): Question => {
    const content = template.render(values);
    const { system, chat } = work.prompt;
    if (!chat) return { prompt: content, options: null, target: null };
    const messages = [
      ...(system === null ? [] : [{ role: 'system' as const, content: system }]),
      { role: 'user' as const, content },
    ];
    return { prompt: conversation(model, messages, work.prompt.where), options: null, target: null };
  };
  const check = (values: Values) => {
    checkColumns(template, values);
    checkWanted(pipeline, wanted, values);
  };
  yield* draftRows({ pipeline, task: pipeline.name, source: work.source, id: work.id, check, ask });
}

async function* taskRows(pipeline: Pipeline, work: TaskWork, task: Task, model: ModelText) {
  const examplesFor = await openExamples(task.fewshot, pipeline.seed, `${task.path}: few-shot examples`);
  const chat = work.applyChatTemplate
    ? {
        multiturn: work.fewshotAsMultiturn,
        render: (messages: Parameters<typeof renderChat>[1]) => conversation(model, messages, pipeline.path),
      }
    : undefined;
  const questions = taskQuestions(task, examplesFor, chat);
  const check = (values: Values) => {
    questions.check(values);
    checkWanted(pipeline, pipeline.columns, values);
  };
  yield* draftRows({ pipeline, task: task.name, source: task.data, id: null, check, ask: questions.ask });
}

function conversation(model: ModelText, messages: Parameters<typeof renderChat>[1], where: string): string {
  const { chatTemplate, bosToken, eosToken } = model;
  if (chatTemplate === null)
    throw new FatalInputError(
      `${where}: the model has no chat template; ask without one (chat or applyChatTemplate: false)`,
    );
  return renderChat(chatTemplate, messages, { bosToken, eosToken, addGenerationPrompt: true });
}

/** Concerns every row, so it is not made an error of one. */
class FatalInputError extends InputError {}

function checkWanted(pipeline: Pipeline, wanted: readonly string[], values: Values): void {
  const missing = wanted.find((column) => !Object.hasOwn(values, column));
  if (missing === undefined) return;
  throw new InputError(
    `${pipeline.path}: there is no column "${missing}"; the columns are ${Object.keys(values).join(', ')}`,
  );
}

type Draft = Omit<PromptRow, 'promptTokens' | 'promptSha256'>;

interface DraftOptions {
  readonly pipeline: Pipeline;
  readonly task: string;
  readonly source: SourceSpec;
  readonly id: string | null;
  /** Whether the columns are those that the pipeline speaks of. */
  readonly check: (values: Values) => void;
  readonly ask: (values: Values) => Question;
}

async function* draftRows(options: DraftOptions): AsyncGenerator<Draft, void, undefined> {
  const { pipeline, task, source, id, check, ask } = options;
  const seen = new SeenIds();
  const columnsAreThere = firstFitting(check);
  let rows = 0;
  for await (const row of openSource(source)) {
    if (pipeline.limit !== null && row.index >= pipeline.limit) break;
    rows++;
    if (row.error === undefined) columnsAreThere.see(row.values);
    const named = rowName(row, id);
    if (id !== null) {
      const before = seen.add(named.name, row.index);
      if (before !== undefined) throw await duplicateId(source, { id, name: named.name, before, where: row.where });
    }
    yield { rowId: `${task}/${named.name}`, task, ...content(row, named.error, pipeline.columns, ask) };
  }
  columnsAreThere.end();
  if (rows === 0) throw new InputError(`${source.files.join(', ')}: no rows in it; ${task} has nothing to ask`);
}

/** One row in which everything is there shows that the names are right; JSON may leave keys out of the others. */
function firstFitting(check: (values: Values) => void) {
  let fits = false;
  let problem: unknown;
  let tried = 0;
  return {
    see(values: Values) {
      if (fits) return;
      try {
        check(values);
        fits = true;
      } catch (error) {
        problem ??= error;
        tried++;
        if (tried === rowsToTry) throw problem;
      }
    },
    end() {
      if (!fits && problem !== undefined) throw problem;
    },
  };
}

function content(
  row: SourceRow,
  nameError: string | undefined,
  columns: readonly string[],
  ask: (values: Values) => Question,
) {
  const picked = Object.fromEntries(columns.map((column) => [column, row.values[column] ?? null]));
  const refused = (error: string) => ({ prompt: '', options: null, target: null, columns: picked, error });
  const error = row.error ?? nameError;
  if (error !== undefined) return refused(error);
  try {
    return { ...ask(row.values), columns: picked, error: null };
  } catch (problem) {
    if (!(problem instanceof InputError) || problem instanceof FatalInputError) throw problem;
    return refused(`${row.where}: ${problem.message}`);
  }
}

/** A row without an id is named by where it stands. */
function rowName(row: SourceRow, id: string | null): { name: string; error?: string } {
  if (id === null) return { name: String(row.index) };
  if (row.error !== undefined) return { name: row.where };
  const value = row.values[id];
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new InputError(
      `${row.where}: the id ${value} is too large to be exact as a number; write ids of this size as text`,
    );
  }
  if ((typeof value === 'string' && value !== '') || typeof value === 'number') return { name: String(value) };
  return { name: row.where, error: `${row.where}: the id column "${id}" has no text or number in it` };
}

async function duplicateId(
  source: SourceSpec,
  found: { id: string; name: string; before: number; where: string },
): Promise<InputError> {
  let first = `row ${found.before + 1}`;
  for await (const row of openSource(source)) {
    if (row.index < found.before) continue;
    first = row.where;
    break;
  }
  return new InputError(
    `${found.where}: the ${found.id} "${found.name}" was already at ${first}; ids must differ: correct one, or leave out source.id`,
  );
}

async function* counted(
  drafts: AsyncIterable<Draft>,
  ask: Ask,
  model: ModelText,
): AsyncGenerator<PromptRequest, void, undefined> {
  let group: Draft[] = [];
  async function* flush() {
    const tokens = await model.countTokens(group.map((draft) => draft.prompt));
    for (const [i, draft] of group.entries()) yield { row: finished(draft, tokens[i]!), ask };
    group = [];
  }
  for await (const draft of drafts) {
    group.push(draft);
    if (group.length === countedTogether) yield* flush();
  }
  if (group.length > 0) yield* flush();
}

function finished(draft: Draft, tokens: number): PromptRow {
  return {
    ...draft,
    promptSha256: createHash('sha256').update(draft.prompt).digest('hex'),
    promptTokens: draft.error === null ? tokens : 0,
  };
}
