/** JSON files of a model directory, and their fields, with errors that name the file and the key. */
import { readFile } from 'node:fs/promises';
import { EngineError } from '../errors.js';

/** One table of settings: a JSON object, or the metadata of a GGUF file. Null counts as absent. */
export interface Fields {
  /** For messages: the file. */
  readonly source: string;
  raw(key: string): unknown;
  /** A whole number above zero. */
  count(key: string, fallback?: number): number;
  number(key: string, fallback?: number): number;
  text(key: string, fallback?: string): string;
  flag(key: string, fallback: boolean): boolean;
  /** A token's id, or undefined. */
  tokenId(key: string): number | undefined;
  texts(key: string): readonly string[];
  /** A list of so many numbers. */
  numbers(key: string, length: number): readonly number[];
}

/** Every method without a fallback throws BAD_WEIGHTS, naming source and key, if the field is absent or of another kind. */
export function fieldsOf(source: string, raw: (key: string) => unknown): Fields {
  const read = <T>(key: string, needed: string, fits: (value: unknown) => value is T, fallback: T | undefined): T => {
    const value = raw(key) ?? fallback;
    if (fits(value)) return value;
    const found = value === undefined ? 'nothing' : brief(value);
    throw new EngineError('BAD_WEIGHTS', `${source}: ${key}: needed ${needed}, found ${found}`, { path: source, key });
  };
  return {
    source,
    raw,
    count: (key, fallback) => read(key, 'a whole number above zero', isCount, fallback),
    number: (key, fallback) => read(key, 'a number', isFiniteNumber, fallback),
    text: (key, fallback) => read(key, 'a text', isText, fallback),
    flag: (key, fallback) => read(key, 'true or false', isFlag, fallback),
    tokenId: (key) =>
      (raw(key) ?? undefined) === undefined ? undefined : read(key, 'the id of a token', isId, undefined),
    texts: (key) => read(key, 'a list of texts', isTexts, undefined),
    numbers: (key, length) => {
      const fits = (value: unknown): value is ArrayLike<number> => isNumbers(value) && value.length === length;
      return Array.from(read(key, `a list of ${length} numbers`, fits, undefined));
    },
  };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @throws BAD_WEIGHTS if the file is not JSON. */
export async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8');
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${path}: not JSON (${(error as Error).message}); fetch the file again`,
      { path },
      { cause: error },
    );
  }
}

/** The object in a JSON file, or undefined where there is no such file. */
export async function readJsonObject(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    const value = await readJson(path);
    if (isRecord(value)) return value;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  throw new EngineError('BAD_WEIGHTS', `${path}: needed a JSON object`, { path });
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}
function isId(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
function isFiniteNumber(value: unknown): value is number {
  return Number.isFinite(value);
}
function isText(value: unknown): value is string {
  return typeof value === 'string';
}
function isFlag(value: unknown): value is boolean {
  return typeof value === 'boolean';
}
function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every(isText);
}
function isNumbers(value: unknown): value is ArrayLike<number> {
  if (ArrayBuffer.isView(value))
    return !(value instanceof DataView || value instanceof BigInt64Array || value instanceof BigUint64Array);
  return Array.isArray(value) && value.every(isFiniteNumber);
}

/** A value as a message shows it: a vocabulary would fill the screen. */
function brief(value: unknown): string {
  if (Array.isArray(value) || ArrayBuffer.isView(value))
    return `a list of ${(value as { length?: number }).length} values`;
  if (typeof value === 'bigint') return String(value);
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
