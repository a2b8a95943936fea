/**
 * Tables on disk as a stream of rows: JSON lines, JSON, CSV, TSV, Parquet, Arrow; gzip of the text ones.
 *
 * Never a whole dataset in memory: text is read row by row, Parquet a row group, Arrow a record batch at a time. A row that
 * cannot be read is a row with an `error`; a file that cannot be read is an InputError.
 */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from './errors.js';
import { arrowRecords } from './source-arrow.js';
import { jsonRecords } from './source-json.js';
import { parquetRecords } from './source-parquet.js';
import { csvRecords, jsonlRecords } from './source-text.js';

export const formats = ['jsonl', 'json', 'csv', 'tsv', 'parquet', 'arrow'] as const;
export type Format = (typeof formats)[number];

/** One table, in one file or in several of the same form. */
export interface SourceSpec {
  /** Absolute paths. */
  readonly files: readonly string[];
  /** Default: by the name's ending. */
  readonly format?: Format;
  /** JSON: the key of the array in an object, as in `{"examples": [...]}`. */
  readonly field?: string;
  /** CSV: what stands between two cells. */
  readonly delimiter?: string;
}

export interface SourceRow {
  /** Counted from 0 over all files. */
  readonly index: number;
  /** File and line, or file and row where there are no lines. */
  readonly where: string;
  /** By column; values are those of JSON. Empty where there is an error. */
  readonly values: Readonly<Record<string, unknown>>;
  /** Why the row cannot be used. */
  readonly error?: string;
}

/** What the reader of one format yields: a row, and where it stands in its file. */
export interface SourceRecord {
  readonly at: string;
  readonly values?: Readonly<Record<string, unknown>>;
  readonly error?: string;
}

/** @throws InputError where a file is missing, damaged, or not of its format. */
export async function* openSource(spec: SourceSpec): AsyncGenerator<SourceRow, void, undefined> {
  let index = 0;
  for (const path of spec.files) {
    for await (const { at, values, error } of fileRecords(path, spec)) {
      const where = `${basename(path)}:${at}`;
      yield error === undefined
        ? { index, where, values: values! }
        : { index, where, values: {}, error: `${where}: ${error}` };
      index++;
    }
  }
}

/**
 * Files named by paths from `directory`; a `*` in the last part of a path stands for any text.
 *
 * @param where begins the message: the file, line and key that name the paths.
 * @throws InputError where one is missing.
 */
export function sourceFiles(paths: readonly string[], directory: string, where: string): string[] {
  return paths.flatMap((path) => {
    const absolute = resolve(directory, path);
    if (basename(absolute).includes('*')) return matchingFiles(absolute, where);
    const found = statSync(absolute, { throwIfNoEntry: false });
    if (found === undefined) throw new InputError(`${where}: there is no file ${absolute}; correct the path`);
    if (found.isDirectory())
      throw new InputError(`${where}: ${absolute} is a directory; name its files, such as ${path}/*.jsonl`);
    return [absolute];
  });
}

function matchingFiles(pattern: string, where: string): string[] {
  const literal = basename(pattern)
    .split('*')
    .map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'));
  const expression = new RegExp(`^${literal.join('.*')}$`);
  const directory = dirname(pattern);
  const names = statSync(directory, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(directory) : [];
  const matching = names.filter((name) => expression.test(name)).sort();
  if (matching.length === 0) throw new InputError(`${where}: no file matches ${pattern}; correct the path`);
  return matching.map((name) => join(directory, name));
}

function fileRecords(path: string, spec: SourceSpec): AsyncIterable<SourceRecord> {
  switch (spec.format ?? formatOf(path)) {
    case 'jsonl':
      return jsonlRecords(path);
    case 'json':
      return jsonRecords(path, spec.field);
    case 'csv':
      return csvRecords(path, spec.delimiter ?? ',');
    case 'tsv':
      return csvRecords(path, spec.delimiter ?? '\t');
    case 'parquet':
      return parquetRecords(path);
    case 'arrow':
      return arrowRecords(path);
  }
}

const endings: Readonly<Record<string, Format>> = {
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  json: 'json',
  csv: 'csv',
  tsv: 'tsv',
  parquet: 'parquet',
  arrow: 'arrow',
  arrows: 'arrow',
  feather: 'arrow',
};

function formatOf(path: string): Format {
  const ending = /\.(\w+)(?:\.gz)?$/.exec(basename(path).toLowerCase())?.[1] ?? '';
  const format = endings[ending];
  if (format !== undefined) return format;
  throw new InputError(`${path}: the name does not tell the format; add format: ${formats.join(' | ')}`);
}
