/**
 * Prompts from Jinja templates.
 *
 * Task and pipeline templates render as in lm-eval: a variable without a value is an error, the newline at the end stays,
 * and values are written as Python writes them (True, None, ['a', 'b']). Chat templates render as in transformers: blocks take
 * the newline after them and the blanks before them.
 */
import { Environment, Interpreter, Template as JinjaTemplate, parse, tokenize } from '@huggingface/jinja';
import { InputError } from './errors.js';
import { isExpression, referencesOf, type TemplateNode } from './prompt-references.js';
import { type JinjaValue, plainOf, pythonText } from './prompt-values.js';
import { unknownName } from './suggest.js';

// The library's own declarations do not resolve under Node's module rules, so what is used of them stands here.
interface Scope {
  readonly variables: ReadonlyMap<string, JinjaValue>;
  set(name: string, value: unknown): JinjaValue;
}
interface Renderer {
  run(program: TemplateNode): JinjaValue;
  evaluate(node: TemplateNode | undefined, scope: Scope): JinjaValue;
}
const NewScope = Environment as new () => Scope;
const NewRenderer = Interpreter as new (scope?: Scope) => Renderer;
const parseTemplate = (text: string) =>
  parse(tokenize(text)) as TemplateNode & { readonly body: readonly TemplateNode[] };

export type Values = Readonly<Record<string, unknown>>;

/** A template that was parsed. `where` (file, line and key) begins its messages. */
export interface Template {
  readonly where: string;
  /** Columns that must be there. */
  readonly required: readonly string[];
  /** @throws InputError where a column is missing or a value cannot be used as the template does. */
  render(values: Values): string;
  /** The value of a template that is one `{{ expression }}`; of any other, its text. */
  evaluate(values: Values): unknown;
}

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface ChatOptions {
  readonly bosToken: string;
  readonly eosToken: string;
  readonly addGenerationPrompt: boolean;
}

/** @throws InputError where the text is not a template, or uses a filter that there is none of. */
export function compileTemplate(text: string, where: string): Template {
  // The parser drops one newline at the end, as Jinja does by default and lm-eval does not.
  const program = explained(`${where}: no Jinja template`, () =>
    parseTemplate(text.endsWith('\n') ? `${text}\n` : text),
  );
  const references = referencesOf(program);
  const [unknown] = references.unknownFilters;
  if (unknown !== undefined)
    throw new InputError(`${where}: there is no filter ${unknownName(unknown.name, unknown.known)}`);
  const [unsupported] = references.unsupportedCalls;
  if (unsupported !== undefined)
    throw new InputError(`${where}: ${unsupported} is not supported; use replace() or prepare the column`);
  const prepare = (values: Values) => {
    const missing = references.required.find((name) => !Object.hasOwn(values, name));
    if (missing !== undefined) throw missingColumn(where, missing, values);
    return scopeOf(values, references.names);
  };
  const [only] = program.body;
  return {
    where,
    required: references.required,
    render: (values) =>
      explained(where, () => String(new StrictRenderer(prepare(values), references.outputs).run(program).value)),
    evaluate(values) {
      if (program.body.length !== 1 || only === undefined || !isExpression(only)) return this.render(values);
      return explained(where, () => plainOf(new NewRenderer().evaluate(only, prepare(values))));
    },
  };
}

/** @throws InputError naming the columns that are there, where one that the template needs is not. */
export function checkColumns(template: Template, values: Values): void {
  const missing = template.required.find((name) => !Object.hasOwn(values, name));
  if (missing !== undefined) throw missingColumn(template.where, missing, values);
}

/** @throws InputError where the model's chat template cannot render these messages. */
export function renderChat(chatTemplate: string, messages: readonly ChatMessage[], options: ChatOptions): string {
  return explained('the chat template of the model', () =>
    new JinjaTemplate(chatTemplate).render({
      messages,
      bos_token: options.bosToken,
      eos_token: options.eosToken,
      add_generation_prompt: options.addGenerationPrompt,
    }),
  );
}

/** Writes what stands in `{{ }}` as Python does, and refuses to write nothing for a value that is not there. */
class StrictRenderer extends NewRenderer {
  constructor(
    scope: Scope,
    private readonly outputs: ReadonlySet<TemplateNode>,
  ) {
    super(scope);
  }

  override evaluate(node: TemplateNode | undefined, scope: Scope): JinjaValue {
    const value = super.evaluate(node, scope);
    if (node === undefined || !this.outputs.has(node) || value.type === 'StringValue') return value;
    return new NewScope().set('text', pythonText(value));
  }
}

function scopeOf(values: Values, names: Iterable<string>): Scope {
  const scope = new NewScope();
  const constants: Record<string, unknown> = {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
  };
  for (const [name, value] of Object.entries(constants)) scope.set(name, value);
  for (const name of names) if (Object.hasOwn(values, name)) scope.set(name, values[name]);
  if (!scope.variables.has('range')) scope.set('range', range);
  return scope;
}

function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  return Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step);
}

function missingColumn(where: string, missing: string, values: Values): InputError {
  const columns = Object.keys(values);
  return new InputError(
    `${where}: there is no column ${unknownName(missing, columns)}${nearColumns(missing, columns)}`,
  );
}

/** All columns, where the message names only the nearest. */
function nearColumns(missing: string, columns: readonly string[]): string {
  return unknownName(missing, columns).includes('did you mean') ? ` The columns are ${columns.join(', ')}` : '';
}

function explained<Result>(where: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(`${where}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}
