import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openColumnTypes } from '../../datasets/column-types.js';
import { InputError } from '../../datasets/errors.js';
import { type PartOptions, partIsValid, readPart, writePart } from '../../datasets/output.js';
import type { AnswerRow } from '../../datasets/rows.js';

const identity = { fingerprint: 'f'.repeat(64), shardSha256: 'a'.repeat(64) };
const options: PartOptions = { ...identity, engineVersion: '0.1.0/onnx-1', columns: [] };

function answer(values: Partial<AnswerRow> = {}): AnswerRow {
  return {
    rowId: 'capitals/0',
    task: 'capitals',
    promptSha256: '0'.repeat(64),
    completion: ' Paris',
    finishReason: 'stop',
    promptTokens: 12,
    completionTokens: 2,
    logprob: -0.25,
    optionLogprobs: null,
    error: null,
    columns: {},
    ...values,
  };
}

const answers: readonly AnswerRow[] = [
  answer({ columns: { country: 'France', people: 68, area: 551.5, eu: true, tags: ['a', { b: null }], note: null } }),
  answer({
    rowId: 'capitals/é "1"\n',
    completion: '東京 🗼\u0000 & <b>',
    finishReason: 'length',
    logprob: null,
    optionLogprobs: [-1.5, Number.NEGATIVE_INFINITY, -0.1],
    columns: { country: '日本', people: 9_007_199_254_740_993n, area: 7, eu: false, tags: 'plain', note: null },
  }),
  answer({
    rowId: 'capitals/2',
    completion: null,
    finishReason: 'error',
    completionTokens: 0,
    logprob: null,
    optionLogprobs: [],
    error: 'the prompt has 9000 tokens, the model reads 2048; shorten it',
    columns: {},
  }),
];
const columns = ['country', 'people', 'area', 'eu', 'tags', 'note'];

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-output-'));
  path = join(directory, 'part-00000.parquet');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('a part', () => {
  it('reads back as it was written: text, numbers, lists, nulls, nested values', async () => {
    const written = writePart(path, answers, { ...options, columns });
    expect(written).toEqual({ rows: 3, bytes: readFileSync(path).length });
    const empty = { country: null, people: null, area: null, eu: null, tags: null, note: null };
    expect(await readPart(path)).toEqual([answers[0], answers[1], { ...answers[2], columns: empty }]);
  });

  it('is read by DuckDB with the same values and types', async () => {
    writePart(path, answers, { ...options, columns });
    const rows = await query(`select * from '${path}'`);
    expect(rows).toEqual([
      {
        row_id: 'capitals/0',
        task: 'capitals',
        prompt_sha256: '0'.repeat(64),
        completion: ' Paris',
        finish_reason: 'stop',
        prompt_tokens: 12,
        completion_tokens: 2,
        logprob: -0.25,
        option_logprobs: null,
        error: null,
        country: 'France',
        people: 68n,
        area: 551.5,
        eu: true,
        tags: '["a",{"b":null}]',
        note: null,
      },
      {
        row_id: 'capitals/é "1"\n',
        task: 'capitals',
        prompt_sha256: '0'.repeat(64),
        completion: '東京 🗼\u0000 & <b>',
        finish_reason: 'length',
        prompt_tokens: 12,
        completion_tokens: 2,
        logprob: null,
        option_logprobs: [-1.5, Number.NEGATIVE_INFINITY, -0.1],
        error: null,
        country: '日本',
        people: 9_007_199_254_740_993n,
        area: 7,
        eu: false,
        tags: '"plain"',
        note: null,
      },
      {
        row_id: 'capitals/2',
        task: 'capitals',
        prompt_sha256: '0'.repeat(64),
        completion: null,
        finish_reason: 'error',
        prompt_tokens: 12,
        completion_tokens: 0,
        logprob: null,
        option_logprobs: [],
        error: 'the prompt has 9000 tokens, the model reads 2048; shorten it',
        country: null,
        people: null,
        area: null,
        eu: null,
        tags: null,
        note: null,
      },
    ]);
    const types = await query(`select column_name, column_type from (describe select * from '${path}')`);
    expect(Object.fromEntries(types.map((row) => [row.column_name, row.column_type]))).toEqual({
      row_id: 'VARCHAR',
      task: 'VARCHAR',
      prompt_sha256: 'VARCHAR',
      completion: 'VARCHAR',
      finish_reason: 'VARCHAR',
      prompt_tokens: 'INTEGER',
      completion_tokens: 'INTEGER',
      logprob: 'DOUBLE',
      option_logprobs: 'DOUBLE[]',
      error: 'VARCHAR',
      country: 'VARCHAR',
      people: 'BIGINT',
      area: 'DOUBLE',
      eu: 'BOOLEAN',
      tags: 'JSON',
      note: 'VARCHAR',
    });
  });

  it('says in its footer what it answers', async () => {
    writePart(path, answers, options);
    const rows = await query(`select decode(key) as k, decode(value) as v from parquet_kv_metadata('${path}')`);
    expect(Object.fromEntries(rows.map((row) => [row.k, row.v]))).toEqual({
      'zigzag.format': '1',
      'zigzag.fingerprint': identity.fingerprint,
      'zigzag.shard_sha256': identity.shardSha256,
      'zigzag.engine_version': '0.1.0/onnx-1',
      'zigzag.columns': '[]',
    });
  });

  it('holds any text and any numbers', async () => {
    const row = fc.record({
      completion: fc.option(fc.string({ unit: 'grapheme' })),
      logprob: fc.option(fc.double({ noNaN: true })),
      optionLogprobs: fc.option(fc.array(fc.double({ noNaN: true }), { maxLength: 5 })),
      value: fc.option(fc.oneof(fc.string({ unit: 'grapheme' }), fc.integer(), fc.boolean())),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(row, { maxLength: 30 }), async (rows) => {
        const written = rows.map(({ value, ...rest }, index) =>
          answer({ ...rest, rowId: `t/${index}`, columns: { value } }),
        );
        writePart(path, written, { ...options, columns: ['value'] });
        const read = await readPart(path);
        // A dictionary page cannot tell -0 from 0.
        expect(JSON.stringify(read)).toBe(JSON.stringify(written));
      }),
      { numRuns: 60 },
    );
  });

  it('spans several row groups', async () => {
    const many = Array.from({ length: 25_000 }, (_, index) => answer({ rowId: `t/${index}`, promptTokens: index }));
    expect(writePart(path, many, options).rows).toBe(25_000);
    expect((await readPart(path)).map((row) => row.promptTokens)).toEqual(many.map((row) => row.promptTokens));
    expect(await query(`select count(distinct row_group_id) n from parquet_metadata('${path}')`)).toEqual([{ n: 3n }]);
  });

  it('of no rows is still a part', async () => {
    expect(writePart(path, [], { ...options, columns }).rows).toBe(0);
    expect(await readPart(path)).toEqual([]);
    expect(partIsValid(path, { ...identity, rows: 0 })).toBe(true);
  });

  it('has the same bytes whenever it has the same rows', () => {
    writePart(path, answers, { ...options, columns });
    const first = readFileSync(path);
    const again = join(directory, 'other.parquet');
    writePart(again, [...structuredClone(answers)], { ...options, columns });
    expect(readFileSync(again).equals(first)).toBe(true);
  });

  it('keeps a source column that has the name of one of ours, under a name of its own', async () => {
    const clash = { error: 'E42', Task: 'T1', source_task: 'S1' };
    writePart(path, [answer({ columns: clash })], { ...options, columns: ['error', 'Task', 'source_task'] });
    expect(await query(`select error, source_error, task, source_task, "source_source_Task" from '${path}'`)).toEqual([
      { error: null, source_error: 'E42', task: 'capitals', source_task: 'S1', source_source_Task: 'T1' },
    ]);
    expect((await readPart(path))[0]!.columns).toEqual(clash);
  });

  it('gives a column the type that the run fixed, so that all parts agree', async () => {
    const types = { empty: 'double', whole: 'double', number: 'string' } as const;
    const columns = ['empty', 'whole', 'number'];
    writePart(path, [answer({ columns: { empty: null, whole: 1, number: 12 } })], { ...options, columns, types });
    expect(await query(`select typeof(empty) e, typeof(whole) w, number from '${path}'`)).toEqual([
      { e: 'DOUBLE', w: 'DOUBLE', number: '12' },
    ]);
  });
});

describe('the types of columns', () => {
  it('are found over all rows of a run, so that its parts can be queried as one', async () => {
    const rows = [{ size: null, mixed: 1 }, { size: 1, mixed: 'a' }, { size: 0.5 }];
    const columnTypes = openColumnTypes();
    for (const row of rows) columnTypes.add(row);
    const types = columnTypes.types();
    expect(types).toEqual({ size: 'double', mixed: 'json' });
    for (const [index, columns] of rows.entries()) {
      const row = answer({ rowId: `t/${index}`, columns });
      writePart(join(directory, `${index}.parquet`), [row], { ...options, columns: ['size', 'mixed'], types });
    }
    expect(await query(`select size, mixed from '${directory}/*.parquet' order by row_id`)).toEqual([
      { size: null, mixed: '1' },
      { size: 1, mixed: '"a"' },
      { size: 0.5, mixed: null },
    ]);
  });
});

describe('a part that is there already', () => {
  const expected = { ...identity, rows: 3 };
  beforeEach(() => {
    writePart(path, answers, { ...options, columns });
  });

  it.each([
    ['fits', expected, true],
    ['is of another run', { ...expected, fingerprint: 'e'.repeat(64) }, false],
    ['answers another shard', { ...expected, shardSha256: 'b'.repeat(64) }, false],
    ['lacks a row', { ...expected, rows: 4 }, false],
  ])('%s', (_, wanted, valid) => expect(partIsValid(path, wanted)).toBe(valid));

  it.each([
    ['is missing', (at: string) => rmSync(at)],
    ['is empty', (at: string) => writeFileSync(at, '')],
    ['is a directory', replaceByDirectory],
    ['was cut short', (at: string) => writeFileSync(at, readFileSync(at).subarray(0, -100))],
    ['lost its beginning', (at: string) => writeFileSync(at, readFileSync(at).subarray(100))],
    ['has a damaged footer', (at: string) => writeFileSync(at, withByteChanged(readFileSync(at), -8))],
    ['claims an absurd footer', (at: string) => writeFileSync(at, withByteChanged(readFileSync(at), -5))],
    ['is something else', (at: string) => writeFileSync(at, 'PAR1 is only a word, and here PAR1')],
  ])('is not valid and not readable when it %s', async (_, damage) => {
    damage(path);
    expect(partIsValid(path, expected)).toBe(false);
    await expect(readPart(path)).rejects.toThrow(InputError);
    await expect(readPart(path)).rejects.toThrow(/part-00000\.parquet: .*delete it/);
  });

  it('is refused when a page is damaged, with its name', async () => {
    writeFileSync(path, Buffer.from(readFileSync(path)).fill(0xff, 4, 200));
    await expect(readPart(path)).rejects.toThrow(/part-00000\.parquet: .*delete it/);
  });

  it('of another program is not valid', async () => {
    await query(`copy (select 1 as row_id) to '${path}' (format parquet)`);
    expect(partIsValid(path, { ...expected, rows: 1 })).toBe(false);
    await expect(readPart(path)).rejects.toThrow(InputError);
  });
});

describe('a writer that does not come to its end', () => {
  const writer = new URL('../../datasets/output.js', import.meta.url).href;
  const script = (before: string) => `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    ${before}
    const { writePart } = await import(${JSON.stringify(writer)});
    const noise = (i) => Array.from({ length: 8 }, (_, j) => Math.sin(i * 8 + j)).join();
    const template = ${JSON.stringify(answer())};
    const rows = Array.from({ length: 30000 }, (_, i) => ({ ...template, rowId: 't/' + i, completion: noise(i) }));
    try {
      writePart(process.argv[1], rows, ${JSON.stringify(options)});
    } catch (error) {
      console.error(error.name + ': ' + error.message);
      process.exit(2);
    }`;
  const invocation = (before = '') => ['--input-type=module', '-e', script(before), path];

  it('leaves no part when it is killed in the middle, and the next writer clears up after it', () => {
    const killedAtSecondWrite = `
      const { writeSync } = fs;
      let calls = 0;
      fs.writeSync = (...given) => (++calls === 2 ? process.kill(process.pid, 'SIGKILL') : writeSync(...given));
      syncBuiltinESMExports();`;
    expect(spawnSync(process.execPath, invocation(killedAtSecondWrite)).signal).toBe('SIGKILL');
    const [left, ...others] = readdirSync(directory);
    expect([left, others]).toEqual([expect.stringMatching(/^\.part-00000\.parquet\.tmp-/), []]);
    expect(statSync(join(directory, left!)).size).toBeGreaterThan(100_000);
    expect(partIsValid(path, { ...identity, rows: 30_000 })).toBe(false);
    writePart(path, answers, options);
    expect(readdirSync(directory)).toEqual(['part-00000.parquet']);
  });

  it('leaves nothing and says why when the disk takes no more', () => {
    const limited = ['-c', 'ulimit -f 2000; exec "$0" "$@"', process.execPath, ...invocation()];
    const full = spawnSync('sh', limited, { encoding: 'utf8' });
    expect(full.stderr).toMatch(/^InputError: cannot write .*part-00000\.parquet: the file is too large/);
    expect(full.status).toBe(2);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('keeps the part that was there', () => {
    writePart(path, answers, { ...options, columns });
    const before = readFileSync(path);
    const failing = {
      *[Symbol.iterator]() {
        yield answers[0]!;
        throw new Error('engine gone');
      },
    };
    expect(() => writePart(path, failing, options)).toThrow('engine gone');
    expect(readFileSync(path).equals(before)).toBe(true);
  });

  it.skipIf(process.getuid?.() === 0)('is refused a directory that it must not write to (skipped for root)', () => {
    chmodSync(directory, 0o500);
    expect(() => writePart(path, answers, options)).toThrow(/part-00000\.parquet: the directory cannot be written to/);
    chmodSync(directory, 0o700);
  });
});

function replaceByDirectory(at: string): void {
  rmSync(at);
  mkdirSync(at);
}

function withByteChanged(bytes: Buffer, fromEnd: number): Buffer {
  bytes[bytes.length + fromEnd]! ^= 0x7f;
  return bytes;
}

async function query(sql: string): Promise<Record<string, unknown>[]> {
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    const reader = await connection.runAndReadAll(sql);
    return reader.getRowObjectsJS() as Record<string, unknown>[];
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}
