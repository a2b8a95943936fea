/**
 * Rows of JSON lines and of CSV.
 */
import { pipeline, Readable } from 'node:stream';
import { CsvError, type Info, parse } from 'csv-parse';
import { InputError } from './errors.js';
import type { SourceRecord } from './source.js';
import { fileBytes, fileLines, unreadable } from './source-bytes.js';

/** A quote that is never closed would otherwise take the rest of the file into memory. */
const maxCsvRecordBytes = 64 * 1024 * 1024;

/** One object a line; empty lines are skipped. */
export async function* jsonlRecords(path: string): AsyncGenerator<SourceRecord, void, undefined> {
  let first = true;
  for await (const { line, bytes } of fileLines(path)) {
    const record = jsonRecord(bytes, String(line));
    if (record === undefined) continue;
    if (first && record.error !== undefined && bytes.toString('latin1').trimStart().startsWith('[')) {
      throw new InputError(`${path}:${line}: begins with "[": a JSON array, not one object a line; add format: json`);
    }
    first = false;
    yield record;
  }
}

/** The row in the bytes of one JSON object; undefined where they are blank. */
export function jsonRecord(bytes: Buffer, at: string): SourceRecord | undefined {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { at, error: 'not UTF-8; convert the file to UTF-8' };
  }
  if (text.trim() === '') return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { at, error: `not valid JSON: ${error instanceof Error ? error.message : error}` };
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return { at, values: value as Record<string, unknown> };
  return {
    at,
    error: `a JSON object with a key for each column is needed, found ${Array.isArray(value) ? 'an array' : JSON.stringify(value)}`,
  };
}

/** The first record names the columns; cells stay text. A record with another number of cells is an error of its own. */
export async function* csvRecords(path: string, delimiter: string): AsyncGenerator<SourceRecord, void, undefined> {
  let header: string[] | undefined;
  for await (const { cells, line } of csvCells(path, delimiter)) {
    if (header === undefined) {
      header = checkedHeader(path, cells);
    } else if (cells.length === header.length) {
      yield { at: String(line), values: Object.fromEntries(header.map((name, i) => [name, cells[i]!])) };
    } else {
      yield {
        at: String(line),
        error: `${cells.length} cells where the header has ${header.length}; quote cells that contain "${delimiter}"`,
      };
    }
  }
  if (header === undefined) throw new InputError(`${path}: empty; a CSV file begins with the names of its columns`);
}

async function* csvCells(path: string, delimiter: string) {
  const parser = parse({
    delimiter,
    info: true,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: maxCsvRecordBytes,
  });
  // The callback is required; an error of either stream reaches the loop below.
  pipeline(Readable.from(decoded(path)), parser, () => {});
  let lastLine = 0;
  try {
    for await (const item of parser) {
      const { record: cells, info } = item as { record: string[]; info: Info };
      lastLine = info.lines;
      yield { cells, line: info.lines - newlinesIn(cells) };
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw unreadable(path, error);
    throw new InputError(
      `${path}:${lastLine + 1}: the record that begins here never ends (${error.message}); close its quotation marks`,
      { cause: error },
    );
  }
}

function newlinesIn(cells: readonly string[]): number {
  return cells.reduce((sum, cell) => sum + cell.split('\n').length - 1, 0);
}

async function* decoded(path: string): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let bytesBefore = 0;
  const decode = (bytes?: Buffer) => {
    try {
      return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
    } catch {
      throw new InputError(
        `${path}: not UTF-8 (after byte ${bytesBefore}); convert the file, for example with iconv -f LATIN1 -t UTF-8`,
      );
    }
  };
  for await (const bytes of fileBytes(path)) {
    yield decode(bytes);
    bytesBefore += bytes.length;
  }
  yield decode();
}

function checkedHeader(path: string, names: readonly string[]): string[] {
  const unnamed = names.indexOf('');
  if (unnamed >= 0)
    throw new InputError(
      `${path}:1: column ${unnamed + 1} has no name; the first line of a CSV file names the columns`,
    );
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw new InputError(`${path}:1: the column "${twice}" is there twice; rename one`);
  return [...names];
}
