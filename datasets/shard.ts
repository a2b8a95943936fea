/**
 * Shards: the requests of a run as Arrow IPC files, and the manifest that lists them.
 *
 * A shard holds requests of one task. Within a task the longest prompts come first: if memory does not suffice this shows at
 * once, and the time left is overestimated rather than underestimated. Equal requests give equal bytes.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Field, Int32, List, Table, tableFromIPC, tableToIPC, Utf8, type Vector, vectorFromArray } from 'apache-arrow';
import { type ColumnType, openColumnTypes } from './column-types.js';
import { InputError } from './errors.js';
import { writeFileAtomic } from './files.js';
import type { Ask, PromptRow, ShardReference } from './rows.js';
import { openLengthOrder } from './shard-order.js';

/** What a planned run consists of. */
export interface Manifest {
  /** Of the run that the shards were made for. */
  readonly fingerprint: string;
  readonly rows: number;
  /** Of the source columns in the output, the same in all parts. */
  readonly columnTypes: Readonly<Record<string, ColumnType>>;
  readonly shards: readonly ShardReference[];
}

export interface ShardOptions {
  /** Requests, those of one task one after the other. */
  readonly requests: AsyncIterable<{ readonly row: PromptRow; readonly ask: Ask }>;
  readonly runDir: string;
  readonly fingerprint: string;
  readonly shardRows: number;
}

const manifestVersion = 1;
const manifestPath = (runDir: string) => join(runDir, 'shards', 'manifest.json');

/**
 * Writes `shards/*.arrow`, and the manifest last: where it is, all shards are. Memory is bounded by a shard and a buffer for
 * sorting.
 */
export async function writeShards({ requests, runDir, fingerprint, shardRows }: ShardOptions): Promise<Manifest> {
  const shards: ShardReference[] = [];
  const columns = openColumnTypes();
  for await (const { task, ask, rows } of tasksByLength(requests, join(runDir, 'shards'))) {
    for await (const group of grouped(rows, shardRows)) {
      const index = shards.length;
      const path = `shards/${String(index).padStart(5, '0')}.arrow`;
      const bytes = shardBytes(group);
      for (const row of group) columns.add(row.columns);
      writeFileAtomic(join(runDir, path), bytes);
      const promptTokens = group.reduce((sum, row) => sum + row.promptTokens, 0);
      shards.push({ index, path, rows: group.length, sha256: sha256(bytes), task, ask, promptTokens });
    }
  }
  const rows = shards.reduce((sum, shard) => sum + shard.rows, 0);
  const manifest = { fingerprint, rows, columnTypes: columns.types(), shards };
  writeFileAtomic(manifestPath(runDir), `${JSON.stringify({ version: manifestVersion, ...manifest }, null, 2)}\n`);
  return manifest;
}

/**
 * The manifest of a run, or undefined where none was written yet.
 *
 * @throws InputError where it is not one of this version.
 */
export function readManifest(runDir: string): Manifest | undefined {
  const path = manifestPath(runDir);
  if (!existsSync(path)) return undefined;
  const advice = `delete ${join(runDir, 'shards')} and run the same command again; answers that are there are kept`;
  let value: Partial<Manifest> & { version?: unknown };
  try {
    value = JSON.parse(readFileSync(path, 'utf8')) as typeof value;
  } catch (error) {
    throw new InputError(`${path}: not valid JSON; ${advice}`, { cause: error });
  }
  const { version, fingerprint, rows, columnTypes = {}, shards } = value;
  if (version !== manifestVersion || fingerprint === undefined || rows === undefined || shards === undefined) {
    throw new InputError(
      `${path}: needs a manifest of version ${manifestVersion}, found version ${JSON.stringify(version)}; ${advice}`,
    );
  }
  return { fingerprint, rows, columnTypes, shards };
}

/** @throws InputError where the file is missing or is not the one that the manifest lists. */
export function readShard(path: string, expectedSha256: string): PromptRow[] {
  const advice = 'delete the directory of the shards and run the same command again; answers that are there are kept';
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new InputError(`${path}: a shard that the manifest lists cannot be read; ${advice}`, { cause: error });
  }
  const found = sha256(bytes);
  if (found !== expectedSha256) {
    throw new InputError(
      `${path}: not the shard that was written: the manifest says sha256 ${expectedSha256}, found ${found}; ${advice}`,
    );
  }
  return rowsOf(tableFromIPC(bytes));
}

const list = new List(new Field('item', new Utf8(), false));

function shardBytes(rows: readonly PromptRow[]): Uint8Array {
  const texts = (cell: (row: PromptRow) => string | null) => vectorFromArray(rows.map(cell), new Utf8());
  const columns: Record<string, Vector> = {
    row_id: texts((row) => row.rowId),
    task: texts((row) => row.task),
    prompt: texts((row) => row.prompt),
    prompt_sha256: texts((row) => row.promptSha256),
    prompt_tokens: vectorFromArray(
      rows.map((row) => row.promptTokens),
      new Int32(),
    ),
    options: vectorFromArray(
      rows.map((row) => row.options),
      list,
    ),
    target: texts((row) => row.target),
    columns: texts((row) => JSON.stringify(row.columns)),
    error: texts((row) => row.error),
  };
  return tableToIPC(new Table(columns), 'file');
}

function rowsOf(table: Table): PromptRow[] {
  const column = (name: string) => table.getChild(name)!;
  const text = (name: string, i: number) => column(name).get(i) as string;
  const optionalText = (name: string, i: number) => column(name).get(i) as string | null;
  return Array.from({ length: table.numRows }, (_, i) => {
    const options = column('options').get(i) as Iterable<string> | null;
    return {
      rowId: text('row_id', i),
      task: text('task', i),
      prompt: text('prompt', i),
      promptSha256: text('prompt_sha256', i),
      promptTokens: column('prompt_tokens').get(i) as number,
      options: options === null ? null : [...options],
      target: optionalText('target', i),
      columns: JSON.parse(text('columns', i)) as Record<string, unknown>,
      error: optionalText('error', i),
    };
  });
}

interface TaskRows {
  readonly task: string;
  readonly ask: Ask;
  readonly rows: AsyncIterable<PromptRow>;
}

/** Task by task, the rows of each in the order of the shards. */
async function* tasksByLength(
  requests: ShardOptions['requests'],
  directory: string,
): AsyncGenerator<TaskRows, void, undefined> {
  let order = openLengthOrder(directory);
  let current: { task: string; ask: Ask } | undefined;
  try {
    for await (const { row, ask } of requests) {
      if (current !== undefined && current.task !== row.task) {
        yield { ...current, rows: order.rows() };
        order.close();
        order = openLengthOrder(directory);
      }
      current = { task: row.task, ask };
      order.add(row);
    }
    if (current !== undefined) yield { ...current, rows: order.rows() };
  } finally {
    order.close();
  }
}

async function* grouped<Item>(items: AsyncIterable<Item>, size: number): AsyncGenerator<Item[], void, undefined> {
  let group: Item[] = [];
  for await (const item of items) {
    group.push(item);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
