/**
 * Parts: the answers to one shard, as a Parquet file.
 *
 * The only door to Parquet writing. A part exists completely or not at all, and says in its footer what it answers
 * (the run's fingerprint, the shard's sum), so that one that fits is never computed again. It holds no clock and no
 * path: equal rows give equal bytes.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import {
  asyncBufferFromFile,
  type FileMetaData,
  parquetMetadata,
  parquetReadObjects,
  type SchemaElement,
} from 'hyparquet';
import { ByteWriter, type ColumnSource, ParquetWriter } from 'hyparquet-writer';
import { type ColumnType, typeOf } from './column-types.js';
import { InputError } from './errors.js';
import { openAtomic } from './files.js';
import type { AnswerRow } from './rows.js';

/** Raised when the columns of a part change their meaning. */
const formatVersion = '1';

/** What a part answers; its footer carries it. */
export interface PartIdentity {
  readonly fingerprint: string;
  readonly shardSha256: string;
}

export interface PartOptions extends PartIdentity {
  readonly engineVersion: string;
  /** Source columns to write, in this order; one that a row lacks is null there. */
  readonly columns: readonly string[];
  /** Types fixed for the whole run; a column without one is typed by its values in this part. */
  readonly types?: Readonly<Record<string, ColumnType>>;
  /** Directory in which it is written before it takes its place. */
  readonly workplace?: string;
}

/**
 * Writes `rows` to `path`, complete or not at all.
 *
 * A source column with the name of one of ours is written as `source_<name>`.
 *
 * @throws InputError where the directory cannot be written or the disk is full; then nothing is left behind.
 */
export function writePart(
  path: string,
  rows: Iterable<AnswerRow>,
  options: PartOptions,
): { readonly rows: number; readonly bytes: number } {
  const answers = Array.from(rows);
  const names = storedNames(options.columns);
  const sources = options.columns.map((name) => {
    const values = answers.map((row) => plainValue(row.columns[name]));
    return { name: names.get(name)!, values, type: options.types?.[name] ?? typeOf(values) };
  });
  const schema: SchemaElement[] = [
    { name: 'root', num_children: ownColumns.length + sources.length },
    ...ownColumns.flatMap((column) => column.schema),
    ...sources.map(({ name, type }) => ({ name, repetition_type: 'OPTIONAL' as const, ...elements[type] })),
  ];
  const columnData: ColumnSource[] = [
    ...ownColumns.map(({ schema: [{ name }], value }) => ({ name, data: answers.map(value) })),
    ...sources.map(({ name, type, values }) => ({ name, data: values.map((value) => stored(value, type)) })),
  ];

  const file = openAtomic(path, options.workplace);
  try {
    const writer = bufferedWriter(file.write);
    const parquet = new ParquetWriter({
      writer,
      schema,
      createdBy: 'zigzag',
      kvMetadata: [
        { key: 'zigzag.format', value: formatVersion },
        { key: 'zigzag.fingerprint', value: options.fingerprint },
        { key: 'zigzag.shard_sha256', value: options.shardSha256 },
        { key: 'zigzag.engine_version', value: options.engineVersion },
        { key: 'zigzag.columns', value: JSON.stringify(options.columns) },
      ],
    });
    parquet.write({ columnData, rowGroupSize: 10_000 });
    parquet.finish();
    file.commit();
    return { rows: answers.length, bytes: writer.offset };
  } finally {
    file.discard();
  }
}

/** Whether `path` is a whole part that answers this shard of this run. Reads the footer only. */
export function partIsValid(path: string, expected: PartIdentity & { readonly rows: number }): boolean {
  const footer = readFooter(path);
  if (footer === undefined) return false;
  const metadata = keyValues(footer);
  return (
    Number(footer.num_rows) === expected.rows &&
    metadata.get('zigzag.format') === formatVersion &&
    metadata.get('zigzag.fingerprint') === expected.fingerprint &&
    metadata.get('zigzag.shard_sha256') === expected.shardSha256
  );
}

/**
 * The rows of a part, in its order.
 *
 * @throws InputError where the file is missing, damaged, or not a part of ours.
 */
export async function readPart(path: string): Promise<AnswerRow[]> {
  const footer = readFooter(path);
  const metadata = footer === undefined ? undefined : keyValues(footer);
  if (metadata?.get('zigzag.format') !== formatVersion) throw damaged(path);
  const columns = JSON.parse(metadata.get('zigzag.columns') ?? '[]') as string[];
  const names = storedNames(columns);
  let records: Record<string, unknown>[];
  try {
    records = await parquetReadObjects({ file: await asyncBufferFromFile(path), metadata: footer! });
  } catch (error) {
    throw damaged(path, error);
  }
  return records.map((record) => ({
    rowId: record.row_id as string,
    task: record.task as string,
    promptSha256: record.prompt_sha256 as string,
    completion: (record.completion ?? null) as string | null,
    finishReason: record.finish_reason as AnswerRow['finishReason'],
    promptTokens: record.prompt_tokens as number,
    completionTokens: record.completion_tokens as number,
    logprob: (record.logprob ?? null) as number | null,
    optionLogprobs: (record.option_logprobs ?? null) as number[] | null,
    error: (record.error ?? null) as string | null,
    columns: Object.fromEntries(columns.map((name) => [name, restored(record[names.get(name)!])])),
  }));
}

interface OwnColumn {
  readonly schema: readonly [SchemaElement, ...SchemaElement[]];
  readonly value: (row: AnswerRow) => unknown;
}

const text = { type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const;
const required = { repetition_type: 'REQUIRED' } as const;
const optional = { repetition_type: 'OPTIONAL' } as const;

/** The columns that every part has. */
const ownColumns: readonly OwnColumn[] = [
  { schema: [{ name: 'row_id', ...text, ...required }], value: (row) => row.rowId },
  { schema: [{ name: 'task', ...text, ...required }], value: (row) => row.task },
  { schema: [{ name: 'prompt_sha256', ...text, ...required }], value: (row) => row.promptSha256 },
  { schema: [{ name: 'completion', ...text, ...optional }], value: (row) => row.completion },
  { schema: [{ name: 'finish_reason', ...text, ...required }], value: (row) => row.finishReason },
  { schema: [{ name: 'prompt_tokens', type: 'INT32', ...required }], value: (row) => row.promptTokens },
  { schema: [{ name: 'completion_tokens', type: 'INT32', ...required }], value: (row) => row.completionTokens },
  { schema: [{ name: 'logprob', type: 'DOUBLE', ...optional }], value: (row) => row.logprob },
  {
    schema: [
      { name: 'option_logprobs', ...optional, num_children: 1, converted_type: 'LIST' },
      { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
      { name: 'element', type: 'DOUBLE', ...required },
    ],
    value: (row) => row.optionLogprobs,
  },
  { schema: [{ name: 'error', ...text, ...optional }], value: (row) => row.error },
];

const elements = {
  string: text,
  int64: { type: 'INT64' },
  double: { type: 'DOUBLE' },
  boolean: { type: 'BOOLEAN' },
  json: { type: 'BYTE_ARRAY', converted_type: 'JSON' },
} as const satisfies Record<ColumnType, Partial<SchemaElement>>;

/** Names of the source columns in the file. Compared without case, as SQL does. */
function storedNames(columns: readonly string[]): Map<string, string> {
  const taken = new Set<string>([...ownColumns.map(({ schema }) => schema[0].name), ...columns.map(lowerCase)]);
  const own = new Set<string>(ownColumns.map(({ schema }) => schema[0].name));
  return new Map(
    columns.map((name) => {
      if (!own.has(lowerCase(name))) return [name, name];
      let free = `source_${name}`;
      while (taken.has(lowerCase(free))) free = `source_${free}`;
      taken.add(lowerCase(free));
      return [name, free];
    }),
  );
}

function lowerCase(name: string): string {
  return name.toLowerCase();
}

function plainValue(value: unknown): unknown {
  return value instanceof Date ? value.toISOString() : (value ?? null);
}

function stored(value: unknown, type: ColumnType): unknown {
  if (value === null || type === 'json') return value;
  if (type === 'int64') return BigInt(value as number | bigint);
  if (type === 'double') return Number(value);
  if (type === 'string' && typeof value !== 'string') return JSON.stringify(value);
  return value;
}

/** The inverse of `stored`; integers that a number holds exactly come back as numbers. */
function restored(value: unknown): unknown {
  if (typeof value !== 'bigint') return value ?? null;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Hands its bytes on after every row group, so that a part is never in memory as a whole. */
function bufferedWriter(write: (bytes: Uint8Array) => void): ByteWriter & { flush(): void } {
  const writer = new ByteWriter(1 << 16);
  const flush = () => {
    write(writer.getBytes());
    writer.index = 0;
  };
  return Object.assign(writer, { flush, finish: flush });
}

/** A Parquet file ends with its metadata, their length and the magic word. */
const tailBytes = 8;

function readFooter(path: string): FileMetaData | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return undefined;
  }
  try {
    const { size } = fstatSync(fd);
    if (size < 2 * tailBytes || readAt(fd, 0, 4).toString('latin1') !== 'PAR1') return undefined;
    const metadataBytes = readAt(fd, size - tailBytes, 4).readUInt32LE();
    const start = size - tailBytes - metadataBytes;
    return start < 4 ? undefined : parquetMetadata(readAt(fd, start, size - start));
  } catch {
    return undefined; // What cannot be parsed is not a part.
  } finally {
    closeSync(fd);
  }
}

function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  if (readSync(fd, bytes, 0, length, position) !== length) throw new RangeError('the file ends too early');
  return bytes;
}

function keyValues(footer: FileMetaData): Map<string, string | undefined> {
  return new Map((footer.key_value_metadata ?? []).map(({ key, value }) => [key, value]));
}

function damaged(path: string, cause?: unknown): InputError {
  return new InputError(
    `${path}: not a readable part of a run; delete it and run the same command again to compute it anew`,
    { cause },
  );
}
