/**
 * Settings checked against a schema, with errors that a person can act on: where, which key, what was needed, what was
 * found. An unknown key is answered with the nearest known one.
 */
import { z } from 'zod';
import { InputError } from './errors.js';
import { unknownName } from './suggest.js';
import type { KeyPath } from './yaml.js';

/**
 * @param whereIs names the file and line, or the command line option, that a key comes from.
 * @throws InputError with one line for each problem.
 */
export function checkSettings<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  whereIs: (keys: KeyPath) => string,
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new InputError(result.error.issues.flatMap((issue) => problems(schema, value, issue, whereIs)).join('\n'));
}

type Issue = z.core.$ZodIssue;

function problems(schema: z.ZodType, root: unknown, issue: Issue, whereIs: (keys: KeyPath) => string): string[] {
  const keys = issue.path.map((key) => (typeof key === 'number' ? key : String(key)));
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(descend(schema, keys));
    return issue.keys.map((key) => {
      const inside = keys.length === 0 ? '' : ` in ${keys.join('.')}`;
      return `${whereIs([...keys, key])}: unknown key${inside}: ${unknownName(key, known)}`;
    });
  }
  const found = valueAt(root, keys);
  const subject = keys.length === 0 ? '' : `${keys.join('.')}: `;
  if (found === undefined) return [`${whereIs(keys)}: ${subject}missing; it needs ${needed(issue)}`];
  const advice = issue.code === 'invalid_value' && typeof found === 'string' ? suggestion(found, issue.values) : '';
  return [`${whereIs(keys)}: ${subject}needs ${needed(issue)}, found ${shown(found)}${advice}`];
}

function needed(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return typeNames[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return issue.values.map((value) => JSON.stringify(value)).join(' or ');
    case 'too_small':
      return issue.origin === 'number' || issue.origin === 'int'
        ? `a number ${issue.inclusive === false ? 'above' : 'of at least'} ${issue.minimum}`
        : `at least ${issue.minimum} ${issue.origin === 'array' ? 'entry' : 'character'}`;
    case 'too_big':
      return `a number of at most ${issue.maximum}`;
    case 'invalid_union':
      return [...new Set(issue.errors.flat().map(alternative))].join(' or ') || issue.message;
    default:
      return issue.message;
  }
}

function alternative(issue: Issue): string {
  return typeof issue.path[0] === 'number' ? `a list of ${needed(issue)}` : needed(issue);
}

const typeNames: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'keys and values',
  record: 'keys and values',
};

function suggestion(found: string, values: readonly unknown[]): string {
  const name = unknownName(found, values.map(String));
  return name.includes('did you mean') ? `;${name.slice(name.indexOf(';') + 1)}` : '';
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function valueAt(root: unknown, keys: KeyPath): unknown {
  return keys.reduce<unknown>(
    (value, key) => (typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[key] : undefined),
    root,
  );
}

function descend(schema: z.core.$ZodType, keys: KeyPath): z.core.$ZodType | undefined {
  let here: z.core.$ZodType | undefined = schema;
  for (const key of keys) {
    here = unwrapped(here);
    if (here instanceof z.ZodObject) here = here.shape[key] as z.core.$ZodType | undefined;
    else if (here instanceof z.ZodArray) here = here.element;
    else return undefined;
  }
  return unwrapped(here);
}

/** Without what only makes a value optional, and of several alternatives the one that has keys. */
function unwrapped(schema: z.core.$ZodType | undefined): z.core.$ZodType | undefined {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodDefault) {
    return unwrapped(schema.unwrap());
  }
  if (schema instanceof z.ZodPrefault) return unwrapped(schema.unwrap());
  if (schema instanceof z.ZodUnion) {
    return schema.options
      .map(unwrapped)
      .find((option) => option instanceof z.ZodObject || option instanceof z.ZodArray);
  }
  return schema;
}

function knownKeys(schema: z.core.$ZodType | undefined): string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}
