import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { openSource, type SourceRow, type SourceSpec, sourceFiles } from '../../datasets/source.js';
import { SeenIds } from '../../datasets/source-ids.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-source-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const tables = join(process.cwd(), 'test/fixtures/tables');

function file(name: string, content: string | Uint8Array): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

async function rowsOf(path: string | readonly string[], options: Omit<SourceSpec, 'files'> = {}): Promise<SourceRow[]> {
  const rows: SourceRow[] = [];
  for await (const row of openSource({ files: [path].flat(), ...options })) rows.push(row);
  return rows;
}

async function firstRows(path: string, count: number): Promise<SourceRow[]> {
  const rows: SourceRow[] = [];
  for await (const row of openSource({ files: [path] })) {
    rows.push(row);
    if (rows.length === count) break;
  }
  return rows;
}

describe('text tables', () => {
  const ada = { name: 'Ada', note: 'a "b", c' };
  const line = JSON.stringify(ada);
  it.each([
    ['JSON lines', 'a.jsonl', `${line}\n`, {}],
    ['JSON lines without a last newline', 'b.jsonl', line, {}],
    ['JSON lines of Windows, with a byte order mark and an empty line', 'c.jsonl', `\ufeff${line}\r\n\r\n`, {}],
    ['a JSON array', 'd.json', `[${line}]`, {}],
    ['a JSON array over several lines', 'e.json', `\n[\n  {\n "name" : "Ada",\n "note": "a \\"b\\", c" }\n]\n`, {}],
    [
      'an array under a key',
      'f.json',
      `{"version": [1, {"examples": []}], "examples": [${line}], "more": 1}`,
      { field: 'examples' },
    ],
    ['JSON lines in a .json file', 'g.json', `${line}\n`, {}],
    ['CSV', 'h.csv', 'name,note\nAda,"a ""b"", c"\n', {}],
    ['CSV of Windows, with a byte order mark', 'i.csv', '\ufeffname,note\r\nAda,"a ""b"", c"\r\n', {}],
    ['CSV with another delimiter', 'j.csv', 'name;note\nAda;"a ""b"", c"\n', { delimiter: ';' }],
    ['TSV', 'k.tsv', 'name\tnote\nAda\t"a ""b"", c"\n', {}],
    ['a format given by name', 'l.data', `${line}\n`, { format: 'jsonl' as const }],
  ])('%s', async (_, name, content, options) => {
    const rows = await rowsOf(file(name, content), options);
    expect(rows.map((row) => row.values)).toEqual([ada]);
    expect(await rowsOf(file(`${name}.gz`, gzipSync(content)), options)).toMatchObject([{ values: ada }]);
  });

  it('keeps every character of a text', async () => {
    const text = 'line\u2028separator, tab\t, ☕ 𝄞, "quoted"\nand a newline';
    const rows = await rowsOf([
      file('text.jsonl', `${JSON.stringify({ text }).replace('\\u2028', '\u2028')}\n`),
      file('text.json', JSON.stringify([{ text }])),
      file('text.csv', `text\n"${text.replaceAll('"', '""')}"\n`),
    ]);
    expect(rows.map((row) => row.values.text)).toEqual([text, text, text]);
  });

  it('finds the elements of an array wherever the file is cut into pieces', async () => {
    const wanted = Array.from({ length: 3000 }, (_, i) => ({
      i,
      text: `☕ ] } , [ { \\" ${'x'.repeat(i % 97)}`,
      list: [i, [i], {}],
    }));
    const rows = await rowsOf(
      file('long.json', JSON.stringify({ skipped: ['[', { data: 1 }], data: wanted }, null, 1)),
      { field: 'data' },
    );
    expect(rows.map((row) => row.values)).toEqual(wanted);
  });

  it('counts rows over several files, and names file and line', async () => {
    const rows = await rowsOf([file('one.jsonl', '{"a":1}\n\n{"a":2}\n'), file('two.csv', 'a\n"x\ny"\nz\n')]);
    expect(rows.map(({ index, where }) => [index, where])).toEqual([
      [0, 'one.jsonl:1'],
      [1, 'one.jsonl:3'],
      [2, 'two.csv:2'],
      [3, 'two.csv:4'],
    ]);
  });

  it('leaves cells of CSV as the text that they are', async () => {
    const rows = await rowsOf(file('cells.csv', 'code,n,empty\nNA,007,\n'));
    expect(rows[0]?.values).toEqual({ code: 'NA', n: '007', empty: '' });
  });
});

describe('a row that cannot be read is an error of that row alone', () => {
  it.each([
    ['JSON lines', 'bad.jsonl', '{"a":1}\n{"a":\n{"a":3}\n', 'bad.jsonl:2: not valid JSON'],
    [
      'a line that is no object',
      'scalar.jsonl',
      '{"a":1}\n17\n{"a":3}\n',
      'scalar.jsonl:2: a JSON object with a key for each column is needed, found 17',
    ],
    [
      'a line that is not UTF-8',
      'latin.jsonl',
      Buffer.from('{"a":1}\n{"a":"caf\xe9"}\n{"a":3}\n', 'latin1'),
      'latin.jsonl:2: not UTF-8',
    ],
    ['an element of an array', 'bad.json', '[{"a":1},\n{"a":oops},\n{"a":3}]', 'bad.json:2: not valid JSON'],
    ['too few cells', 'short.csv', 'a,b\n1,2\n3\n5,6\n', 'short.csv:3: 1 cells where the header has 2'],
    ['too many cells', 'long.csv', 'a,b\n1,2\n3,4,5\n5,6\n', 'long.csv:3: 3 cells where the header has 2'],
  ])('%s', async (_, name, content, message) => {
    const rows = await rowsOf(file(name, content));
    expect(rows.map((row) => row.error === undefined)).toEqual([true, false, true]);
    expect(rows[1]?.error).toContain(message);
    expect(rows[1]?.values).toEqual({});
  });
});

describe('a file that cannot be read says what to change', () => {
  it.each<[string, string, string | Uint8Array, Omit<SourceSpec, 'files'>, RegExp]>([
    [
      'an array in JSON lines',
      'm1.jsonl',
      '[\n{"a":1}]',
      {},
      /m1\.jsonl:1: begins with "\[": a JSON array.*add format: json/,
    ],
    [
      'an array cut off in its second row',
      'm3.json',
      '[{"a":1},',
      {},
      /m3\.json:1: ends in the middle of the array, after 1 row; the file is truncated/,
    ],
    [
      'an array cut off',
      'm2.json',
      '[{"a":1},{"a":2},{"a"',
      {},
      /m2\.json:1: ends in the middle of the array, after 2 rows; the file is truncated/,
    ],
    [
      'a wrong key of the array',
      'm3.json',
      '{"rows":[], "meta": {"x": []}}',
      { field: 'examples' },
      /no array under the key "examples"; the keys of the object are rows, meta/,
    ],
    [
      'one object without a key given',
      'm4.json',
      '{\n"examples": [{"a":1}]\n}',
      {},
      /m4\.json: is one object; add field:/,
    ],
    [
      'a key given for an array',
      'm5.json',
      '[{"a":1}]',
      { field: 'x' },
      /is an array, so there is no key "x" in it; remove field/,
    ],
    ['an empty JSON file', 'm6.json', '', {}, /m6\.json: begins with nothing/],
    ['an empty CSV file', 'm7.csv', '', {}, /m7\.csv: empty; a CSV file begins with the names of its columns/],
    [
      'an open quotation mark',
      'm8.csv',
      'a,b\n1,2\n3,"never closed\n5,6\n',
      {},
      /m8\.csv:3: the record that begins here never ends.*close its quotation marks/,
    ],
    ['a column named twice', 'm9.csv', 'a,b,a\n1,2,3\n', {}, /m9\.csv:1: the column "a" is there twice/],
    ['a column without a name', 'm10.csv', 'a,,b\n1,2,3\n', {}, /m10\.csv:1: column 2 has no name/],
    ['Latin-1', 'm11.csv', Buffer.from('a\ncaf\xe9\n', 'latin1'), {}, /m11\.csv: not UTF-8.*iconv/],
    ['UTF-16', 'm12.csv', Buffer.from('\ufeffa\nb\n', 'utf16le'), {}, /m12\.csv: is UTF-16; convert it/],
    [
      'cut off gzip',
      'm13.jsonl.gz',
      gzipSync('{"a":1}\n'.repeat(1000)).subarray(0, 40),
      {},
      /m13\.jsonl\.gz: damaged or truncated gzip/,
    ],
    ['no Parquet', 'm14.parquet', 'not a table at all, whatever its name', {}, /m14\.parquet: cannot be read/],
    ['no Arrow', 'm15.arrow', 'not a table at all, whatever its name', {}, /m15\.arrow: /],
    ['an unknown ending', 'm16.xlsx', 'x', {}, /the name does not tell the format; add format: jsonl \| json \|/],
  ])('%s', async (_, name, content, options, message) => {
    await expect(rowsOf(file(name, content), options)).rejects.toThrow(message);
    await expect(rowsOf(file(name, content), options)).rejects.toHaveProperty('name', 'InputError');
  });

  it('a file that is not there', async () => {
    for (const ending of ['jsonl', 'json', 'csv', 'parquet', 'arrow']) {
      await expect(rowsOf(join(directory, `absent.${ending}`))).rejects.toThrow(/absent\.\w+: no such file/);
    }
  });
});

describe('columnar tables, as pyarrow writes them', () => {
  // Rows 1, 100, 101 and 300 of each file, which holds three batches or row groups of 100.
  const expected = JSON.parse(readFileSync(join(tables, 'expected.json'), 'utf8')) as Record<string, unknown>[];
  it.each([
    ['Arrow file', 'file.arrow'],
    ['Arrow stream', 'stream.arrow'],
    ['Arrow file compressed with LZ4', 'lz4.arrow'],
    ['Arrow stream compressed with ZSTD', 'zstd.arrow'],
    ['Parquet compressed with Snappy', 'snappy.parquet'],
    ['Parquet compressed with ZSTD', 'zstd.parquet'],
  ])('%s', async (_, name) => {
    const rows = await rowsOf(join(tables, name));
    expect(rows.length).toBe(300);
    expect([0, 99, 100, 299].map((i) => rows[i]?.values)).toEqual(expected);
    expect(rows[100]?.where).toBe(`${name}:row 101`);
  });
});

describe('a table is not read further than it is used', () => {
  const lines = Array.from({ length: 50_000 }, (_, i) => JSON.stringify({ i, text: 'x'.repeat(20) }));
  it.each([
    ['JSON array', 's.json', `[${lines.join(',')}, {"cut`, /truncated/],
    ['gzip', 's.jsonl.gz', gzipSync(lines.join('\n')).subarray(0, -5000), /truncated gzip/],
    ['CSV', 's.csv', `i,text\n${lines.map((_, i) => `${i},x`).join('\n')}\n"`, /never ends/],
    ['Parquet, by row group', 's.parquet', withZeros(readFileSync(join(tables, 'snappy.parquet')), 0.75), /s\.parquet/],
    [
      'Arrow stream, by record batch',
      's.arrow',
      readFileSync(join(tables, 'stream.arrow')).subarray(0, 30_000),
      /s\.arrow/,
    ],
  ])('%s: the first rows come from a file whose end is damaged', async (_, name, content, message) => {
    const path = file(name, content);
    expect((await firstRows(path, 10)).map((row) => Number(row.values.i ?? row.values.id))).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    await expect(rowsOf(path)).rejects.toThrow(message);
  });
});

describe('naming files', () => {
  it('a star stands for any text, and files come in the order of their names', () => {
    const parts = join(directory, 'parts');
    mkdirSync(parts);
    for (const name of ['b-2.jsonl', 'b-1.jsonl', 'c.jsonl'])
      copyFileSync(file('one-row.jsonl', '{}\n'), join(parts, name));
    expect(sourceFiles(['parts/b-*.jsonl', 'parts/c.jsonl'], directory, 'p.yaml:1')).toEqual(
      ['b-1', 'b-2', 'c'].map((name) => join(parts, `${name}.jsonl`)),
    );
  });

  it.each([
    ['absent.csv', /^p\.yaml:4: source\.path: there is no file .*absent\.csv; correct the path/],
    ['none-*.csv', /^p\.yaml:4: source\.path: no file matches .*none-\*\.csv/],
    ['.', /is a directory; name its files/],
  ])('%s is refused', (path, message) => {
    expect(() => sourceFiles([path], directory, 'p.yaml:4: source.path')).toThrow(message);
  });
});

it('remembers a hundred thousand ids and where each was seen', () => {
  const seen = new SeenIds();
  const before = Array.from({ length: 100_000 }, (_, i) => seen.add(`id ${i}`, i));
  expect(before.every((row) => row === undefined)).toBe(true);
  for (let i = 0; i < 100_000; i += 997) expect(seen.add(`id ${i}`, 7)).toBe(i);
});

function withZeros(bytes: Buffer, at: number): Buffer {
  const damaged = Buffer.from(bytes);
  const start = Math.floor(bytes.length * at);
  damaged.fill(0, start, start + 200);
  return damaged;
}
