/**
 * Rows in order of length, longest first, however many: an external merge sort.
 *
 * Rows are gathered up to a limit; a full buffer is sorted and written to a temporary file; at the end the files are merged.
 * Rows of equal length keep the order in which they came.
 */
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { makeDirectory } from './files.js';
import type { PromptRow } from './rows.js';

export interface LengthOrder {
  add(row: PromptRow): void;
  /** All rows added; to be called once. */
  rows(): AsyncIterable<PromptRow>;
  /** Removes the temporary files. */
  close(): void;
}

/** Characters held in memory before they are written out. */
const defaultBufferChars = 64 * 1024 * 1024;

/** @param directory holds the temporary files, where they are needed. */
export function openLengthOrder(directory: string, bufferChars = defaultBufferChars): LengthOrder {
  let buffer: Numbered[] = [];
  let chars = 0;
  let count = 0;
  let temporary: string | undefined;
  const runs: string[] = [];

  const spill = () => {
    if (temporary === undefined) {
      makeDirectory(directory);
      temporary = mkdtempSync(join(directory, '.sort-'));
    }
    const path = join(temporary, String(runs.length));
    writeFileSync(
      path,
      buffer
        .sort(byLength)
        .map((entry) => `${escapedSeparators(JSON.stringify(entry))}\n`)
        .join(''),
    );
    runs.push(path);
    buffer = [];
    chars = 0;
  };

  return {
    add(row) {
      buffer.push({ row, number: count++ });
      chars += textLength(row);
      if (chars >= bufferChars) spill();
    },
    async *rows() {
      const sources = [...runs.map(readRun), inMemory(buffer.sort(byLength))];
      for await (const entry of merged(sources)) yield entry.row;
    },
    close() {
      if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
    },
  };
}

function textLength({ prompt, options, columns }: PromptRow): number {
  return (
    prompt.length + JSON.stringify(columns).length + (options ?? []).reduce((sum, option) => sum + option.length, 0)
  );
}

interface Numbered {
  readonly row: PromptRow;
  /** Place in the order of coming. */
  readonly number: number;
}

function byLength(a: Numbered, b: Numbered): number {
  return b.row.promptTokens - a.row.promptTokens || a.number - b.number;
}

async function* inMemory(entries: readonly Numbered[]): AsyncGenerator<Numbered, void, undefined> {
  yield* entries;
}

async function* readRun(path: string): AsyncGenerator<Numbered, void, undefined> {
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) yield JSON.parse(line) as Numbered;
}

/** Two characters that JSON leaves as they are, and that would end a line for `readline`. */
function escapedSeparators(json: string): string {
  return json.replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
}

async function* merged(
  sources: readonly AsyncGenerator<Numbered, void, undefined>[],
): AsyncGenerator<Numbered, void, undefined> {
  const heads: { entry: Numbered; source: AsyncGenerator<Numbered, void, undefined> }[] = [];
  for (const source of sources) {
    const { value } = await source.next();
    if (value) heads.push({ entry: value, source });
  }
  while (heads.length > 0) {
    const first = heads.reduce((best, head) => (byLength(head.entry, best.entry) < 0 ? head : best));
    yield first.entry;
    const { value } = await first.source.next();
    if (value) first.entry = value;
    else heads.splice(heads.indexOf(first), 1);
  }
}
