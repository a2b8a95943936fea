/**
 * From a row of a task to its question, options and right answer, as lm-eval puts them.
 *
 * Source: lm-eval 0.4.13, `api/task.py` (`fewshot_context`, `build_qa_turn`, `construct_requests`) and `api/utils.py`. A
 * context is the description, the examples and the question; an option is the target delimiter and a choice.
 */
import { InputError } from './errors.js';
import type { ExamplesFor } from './fewshot.js';
import { type ChatMessage, checkColumns, compileTemplate, type Template, type Values } from './prompt.js';
import { unknownName } from './suggest.js';
import type { Field, Task, Wording } from './tasks.js';

export interface Question {
  readonly prompt: string;
  /** Continuations to score; null where text is generated. */
  readonly options: readonly string[] | null;
  readonly target: string | null;
}

/** How a conversation becomes text; absent where the prompt is plain text. */
export interface ChatForm {
  readonly multiturn: boolean;
  render(messages: readonly ChatMessage[]): string;
}

export interface Questions {
  /** @throws InputError where the columns of a row are not those that the task speaks of. */
  check(values: Values): void;
  /** To be called in the order of the rows. @throws InputError where this row cannot be asked. */
  ask(values: Values): Question;
}

/** @throws InputError where a template of the task cannot be parsed. */
export function taskQuestions(task: Task, examplesFor: ExamplesFor, chat?: ChatForm): Questions {
  const wording = compiled(task.wording);
  const shown = compiled(task.fewshot.wording);
  const description = task.description === null ? undefined : fieldReader(task.description, { orText: true });
  const turnsOf = remembered((example) => exampleTurns(shown, example));
  return {
    check(values) {
      for (const field of [wording.text, wording.target, wording.choice, description])
        if (isReader(field)) field.check(values);
    },
    ask(values) {
      // Drawn first: a row that cannot be asked must not change the examples of the next.
      const turns = examplesFor(values).flatMap(turnsOf);
      const system =
        description === undefined
          ? []
          : [{ role: 'system' as const, content: text(description.read(values)), after: '' }];
      const question = { role: 'user' as const, content: questionText(wording, values), after: '' };
      const messages = [...system, ...turns, question].filter((turn) => turn.role !== 'system' || turn.content !== '');
      const prompt =
        chat === undefined
          ? messages.map((turn) => turn.content + turn.after).join('')
          : chat.render(conversationOf(messages, chat.multiturn));
      const choices = choicesOf(wording, values);
      const answer = answerOf(wording, values, choices);
      if (task.outputType === 'generate_until') return { prompt, options: null, target: answerText(answer, choices) };
      const delimiter = chat === undefined ? task.wording.targetDelimiter : '';
      return {
        prompt,
        options: choices!.map((choice) => delimiter + choice),
        target: optionIndex(answer, choices!, wording.where),
      };
    },
  };
}

/** The same few examples are shown again and again. */
function remembered(turnsOf: (example: Values) => Turn[]): (example: Values) => Turn[] {
  const known = new WeakMap<Values, Turn[]>();
  return (example) => {
    const turns = known.get(example) ?? turnsOf(example);
    known.set(example, turns);
    return turns;
  };
}

interface Turn extends ChatMessage {
  /** Follows the content where the turns are joined to one text. */
  readonly after: string;
}

interface FieldReader {
  readonly where: string;
  check(values: Values): void;
  read(values: Values): unknown;
}

interface CompiledWording {
  readonly text: FieldReader;
  readonly target: FieldReader | number;
  readonly choice: FieldReader | readonly string[] | null;
  readonly targetDelimiter: string;
  readonly fewshotDelimiter: string;
  /** Of the right answer, for messages. */
  readonly where: string;
}

function compiled(wording: Wording): CompiledWording {
  const { text: question, target, choice, targetDelimiter, fewshotDelimiter } = wording;
  return {
    text: fieldReader(question, { orText: false }),
    target: typeof target === 'number' ? target : fieldReader(target, { orText: false }),
    choice: choice === null || !('where' in choice) ? choice : fieldReader(choice, { orText: false, asValue: true }),
    targetDelimiter,
    fewshotDelimiter,
    where: typeof target === 'number' ? 'doc_to_target' : target.where,
  };
}

function isReader(field: FieldReader | readonly string[] | number | null | undefined): field is FieldReader {
  return typeof field === 'object' && field !== null && 'read' in field;
}

/** A field that is the name of a column stands for its value; any other is a template. */
function fieldReader(field: Field, kind: { orText: boolean; asValue?: boolean }): FieldReader {
  const template: Template = compileTemplate(field.text, field.where);
  const isName = /^\w+$/.test(field.text) && !kind.orText;
  return {
    where: field.where,
    check(values) {
      if (Object.hasOwn(values, field.text)) return;
      if (isName)
        throw new InputError(`${field.where}: there is no column ${unknownName(field.text, Object.keys(values))}`);
      checkColumns(template, values);
    },
    read(values) {
      if (Object.hasOwn(values, field.text)) return values[field.text];
      if (isName) throw new InputError(`${field.where}: this row has no "${field.text}"`);
      return kind.asValue === true ? template.evaluate(values) : template.render(values);
    },
  };
}

function exampleTurns(wording: CompiledWording, example: Values): Turn[] {
  const choices = choicesOf(wording, example);
  const answer = answerText(answerOf(wording, example, choices), choices);
  const question = questionText(wording, example);
  if (answer === '') return [{ role: 'user', content: question, after: '' }];
  return [
    { role: 'user', content: question, after: wording.targetDelimiter },
    { role: 'assistant', content: answer, after: wording.fewshotDelimiter },
  ];
}

/** In one message, unless each example is a turn of its own. */
function conversationOf(turns: readonly Turn[], multiturn: boolean): ChatMessage[] {
  if (multiturn) return turns.map(({ role, content }) => ({ role, content }));
  const system = turns.filter((turn) => turn.role === 'system').map(({ role, content }) => ({ role, content }));
  const rest = turns.filter((turn) => turn.role !== 'system');
  return [...system, { role: 'user', content: rest.map((turn) => turn.content + turn.after).join('') }];
}

function questionText(wording: CompiledWording, values: Values): string {
  const question = text(wording.text.read(values));
  if (wording.choice !== null && /^\d+$/.test(question)) {
    throw new InputError(
      `${wording.text.where}: gives a number where there are choices: one context for each choice is not supported`,
    );
  }
  return question;
}

function choicesOf(wording: CompiledWording, values: Values): readonly string[] | null {
  if (!isReader(wording.choice)) return wording.choice;
  const list = wording.choice.read(values);
  if (!Array.isArray(list))
    throw new InputError(`${wording.choice.where}: needs a list of choices, found ${shortened(list)}`);
  if (list.length === 0) throw new InputError(`${wording.choice.where}: the list of choices is empty`);
  return list.map(text);
}

/** The right answer: an option's index, or a text. */
function answerOf(wording: CompiledWording, values: Values, choices: readonly string[] | null): number | string {
  const answer = typeof wording.target === 'number' ? wording.target : wording.target.read(values);
  if (Array.isArray(answer) || isListText(answer)) {
    throw new InputError(`${wording.where}: several right answers are not supported, found ${shortened(answer)}`);
  }
  if (choices === null) return text(answer);
  if (typeof answer === 'number' || typeof answer === 'boolean') return Number(answer);
  const label = text(answer);
  return /^\d+$/.test(label) && !choices.includes(label) ? Number(label) : label;
}

/** lm-eval takes a text such as `['a', 'b']` for the list that it would be in Python. */
function isListText(answer: unknown): boolean {
  if (typeof answer !== 'string' || !/^\[.*\]$/s.test(answer)) return false;
  try {
    return Array.isArray(JSON.parse(answer.replaceAll("'", '"')));
  } catch {
    return false;
  }
}

function answerText(answer: number | string, choices: readonly string[] | null): string {
  if (typeof answer === 'string' || choices === null) return String(answer);
  return choices[optionNumber(answer, choices)]!;
}

function optionIndex(answer: number | string, choices: readonly string[], where: string): string {
  const index = typeof answer === 'number' ? optionNumber(answer, choices) : choices.indexOf(answer);
  if (index < 0)
    throw new InputError(`${where}: the right answer "${answer}" is not among the choices ${shortened(choices)}`);
  return String(index);
}

function optionNumber(answer: number, choices: readonly string[]): number {
  if (Number.isInteger(answer) && answer >= 0 && answer < choices.length) return answer;
  throw new InputError(`doc_to_target: there is no choice ${answer}; there are ${choices.length}, counted from 0`);
}

function text(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value === null || value === undefined)
    throw new InputError('a column that the task uses has no value in this row');
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function shortened(value: unknown): string {
  const json = JSON.stringify(value) ?? String(value);
  return json.length > 60 ? `${json.slice(0, 57)}...` : json;
}
