/**
 * Rows of a JSON file: an array of objects, an object with such an array under a key, or one object a line.
 *
 * The array is cut into its elements by their brackets and quotes alone, byte by byte, so that one element at a time is in
 * memory and a malformed one does not hide those after it.
 */
import { InputError } from './errors.js';
import type { SourceRecord } from './source.js';
import { fileBytes } from './source-bytes.js';
import { jsonlRecords, jsonRecord } from './source-text.js';

/** @param field the key of the array, where the file is an object. */
export async function* jsonRecords(path: string, field?: string): AsyncGenerator<SourceRecord, void, undefined> {
  const first = await firstByte(path);
  if (first === '[' && field !== undefined) {
    throw new InputError(`${path}: is an array, so there is no key "${field}" in it; remove field`);
  }
  if (first === '{' && field === undefined) {
    yield* linesOfObjects(path);
    return;
  }
  if (first !== '[' && first !== '{') {
    throw new InputError(
      `${path}: begins with ${first === '' ? 'nothing' : JSON.stringify(first)}; a JSON file of rows begins with "[" or "{"`,
    );
  }
  for await (const { line, bytes } of arrayElements(path, field)) {
    yield jsonRecord(bytes, String(line)) ?? { at: String(line), error: 'an element is missing between two commas' };
  }
}

async function firstByte(path: string): Promise<string> {
  for await (const chunk of fileBytes(path)) {
    const text = chunk.toString('latin1').trimStart();
    if (text !== '') return text[0]!;
  }
  return '';
}

async function* linesOfObjects(path: string): AsyncGenerator<SourceRecord, void, undefined> {
  let first = true;
  for await (const record of jsonlRecords(path)) {
    if (first && record.error !== undefined) {
      throw new InputError(`${path}: is one object; add field: with the key of its array of rows`);
    }
    first = false;
    yield record;
  }
}

/** Elements of the array, each with the line it begins on. */
async function* arrayElements(path: string, field: string | undefined) {
  const scanner = new ElementScanner(field);
  for await (const chunk of fileBytes(path)) {
    yield* scanner.push(chunk);
    if (scanner.done) return;
  }
  if (!scanner.insideArray) {
    throw new InputError(
      `${path}: no array under the key "${field}"; the keys of the object are ${scanner.keys.join(', ') || 'none'}`,
    );
  }
  throw new InputError(
    `${path}:${scanner.line}: ends in the middle of the array, after ${scanner.count} ${scanner.count === 1 ? 'row' : 'rows'}; the file is truncated`,
  );
}

const byte = { quote: 0x22, backslash: 0x5c, comma: 0x2c, colon: 0x3a, newline: 0x0a, openArray: 0x5b };
const isOpen = (here: number) => here === 0x5b || here === 0x7b;
const isClose = (here: number) => here === 0x5d || here === 0x7d;

/** Holds the place between two chunks. */
class ElementScanner {
  line = 1;
  count = 0;
  done = false;
  insideArray = false;
  readonly keys: string[] = [];

  private depth = 0;
  private inString = false;
  private escaped = false;
  private pieces: Buffer[] = [];
  private elementLine = 1;
  /** Text of the last string at the depth of the object's keys, until it turns out to be a key. */
  private lastString: number[] | undefined;
  private key: string | undefined;

  constructor(private readonly field: string | undefined) {}

  *push(chunk: Buffer): Generator<{ line: number; bytes: Buffer }, void, undefined> {
    let start = 0;
    const elementEnds = (end: number) => {
      this.pieces.push(chunk.subarray(start, end));
      const bytes = Buffer.concat(this.pieces);
      this.pieces = [];
      start = end + 1;
      return bytes;
    };
    for (let i = 0; i < chunk.length; i++) {
      const here = chunk[i]!;
      if (here === byte.newline) this.line++;
      if (this.inString) {
        this.stepInString(here);
        continue;
      }
      if (!this.insideArray) {
        if (!this.stepOutside(here)) continue;
        start = i + 1;
        this.elementLine = this.line;
        continue;
      }
      if (here === byte.quote) this.inString = true;
      else if (isOpen(here)) this.depth++;
      else if (isClose(here) && this.depth > 0) this.depth--;
      else if (here === byte.comma && this.depth === 0) {
        this.count++;
        yield { line: this.elementLine, bytes: elementEnds(i) };
        this.elementLine = this.line;
      } else if (isClose(here)) {
        const last = elementEnds(i);
        this.done = true;
        if (this.count > 0 || last.toString('latin1').trim() !== '') yield { line: this.elementLine, bytes: last };
        return;
      }
      // An element begins at its first bracket or quote, which may stand on a later line than the comma before it.
      if (this.depth === 1 && isOpen(here)) this.elementLine = this.line;
    }
    if (this.insideArray) this.pieces.push(Buffer.from(chunk.subarray(start)));
  }

  private stepInString(here: number): void {
    if (this.escaped) this.escaped = false;
    else if (here === byte.backslash) this.escaped = true;
    else if (here === byte.quote) {
      this.inString = false;
      return;
    }
    this.lastString?.push(here);
  }

  /** Before the array; true at the bracket that opens it. */
  private stepOutside(here: number): boolean {
    if (here === byte.quote) {
      this.inString = true;
      this.lastString = this.depth === 1 ? [] : undefined;
    } else if (here === byte.colon && this.depth === 1) {
      this.key = Buffer.from(this.lastString ?? []).toString();
      this.keys.push(this.key);
      this.lastString = undefined;
    } else if (isOpen(here)) {
      const wanted = this.field === undefined ? this.depth === 0 : this.depth === 1 && this.key === this.field;
      if (wanted && here === byte.openArray) {
        this.insideArray = true;
        this.depth = 0;
        return true;
      }
      this.depth++;
    } else if (isClose(here)) this.depth--;
    return false;
  }
}
