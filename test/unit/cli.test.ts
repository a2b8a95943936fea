import { stripVTControlCharacters } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { RunResult } from '../../activities/contracts.js';
import { exitCodeOf, FailedError } from '../../cli/failures.js';
import { InterruptedError } from '../../cli/interrupt.js';
import { numberBetween, portNumber, tokenIds, unescaped, wholeNumber } from '../../cli/options.js';
import { runJson, runSummary } from '../../cli/summary.js';
import { coloursFor, formatBytes, formatCount, formatDuration, formatTable } from '../../cli/terminal.js';
import { InputError } from '../../datasets/errors.js';
import { EngineError } from '../../engine/errors.js';

describe('numbers for people', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1_500, '1.5 kB'],
    [98_362_432, '98.4 MB'],
    [999_999, '1.0 MB'],
    [2_000_000_000_000, '2.0 TB'],
  ])('%d bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [0.4, '0 s'],
    [59.4, '59 s'],
    [59.6, '1 min 00 s'],
    [125, '2 min 05 s'],
    [12_000, '3 h 20 min'],
    [86_400, '24 h'],
  ])('%d seconds are %s', (seconds, text) => expect(formatDuration(seconds)).toBe(text));

  it('have separators', () => expect(formatCount(1_234_567.4)).toBe('1,234,567'));

  it('stand to the right in tables, and text to the left', () => {
    const rows = [
      ['name', 'rows'],
      ['a', '5'],
      ['bc', '1,200'],
    ];
    expect(formatTable(rows, '')).toBe('name   rows\na         5\nbc    1,200');
  });
});

describe('colours', () => {
  it.each([
    ['on a terminal', { isTTY: true }, {}, true],
    ['not in a file', { isTTY: false }, {}, false],
    ['not where NO_COLOR is set', { isTTY: true }, { NO_COLOR: '1' }, false],
    ['not on a dumb terminal', { isTTY: true }, { TERM: 'dumb' }, false],
    ['in a file where they are forced', { isTTY: false }, { FORCE_COLOR: '1' }, true],
    ['not where both are set', { isTTY: true }, { FORCE_COLOR: '1', NO_COLOR: '1' }, false],
    ['not where a forced 0 says so', { isTTY: true }, { FORCE_COLOR: '0' }, false],
  ])('%s', (_, stream, env, expected) => {
    const out = { ...stream, write: () => true };
    expect(coloursFor(out, env as NodeJS.ProcessEnv).isColorSupported).toBe(expected);
  });
});

describe('option values', () => {
  it.each([
    ['wholeNumber', wholeNumber(1), '64', 64],
    ['numberBetween', numberBetween(0, 1), '0.95', 0.95],
    ['tokenIds', tokenIds, '1, 22,333', [1, 22, 333]],
    ['portNumber', portNumber, '65535', 65_535],
    ['unescaped', unescaped, 'a\\nb\\\\n', 'a\nb\\n'],
  ] as const)('%s reads what is right', (_, read, text, value) => expect(read(text)).toEqual(value));

  it.each([
    ['wholeNumber', wholeNumber(1), ['0', '-1', '1.5', 'x', '', '1e3', '99999999999999999999']],
    ['numberBetween', numberBetween(0, 1), ['-0.1', '1.1', 'x', '', ' ', 'NaN']],
    ['tokenIds', tokenIds, ['', '1,', '1;2', '-1', '1.5']],
    ['portNumber', portNumber, ['0', '65536', '-1', '80.5', '0x50', '']],
  ] as const)('%s refuses what is wrong', (_, read, texts) => {
    for (const text of texts) expect(() => read(text), JSON.stringify(text)).toThrow(/must be/);
  });
});

describe('exit codes', () => {
  it.each([
    ['bad input', new InputError('x'), 2],
    ['a request that the engine refuses', new EngineError('BAD_INPUT', 'x'), 2],
    ['a damaged model', new EngineError('BAD_WEIGHTS', 'x'), 2],
    ['a family that is not supported', new EngineError('UNSUPPORTED', 'x'), 2],
    ['too little memory', new EngineError('OUT_OF_MEMORY', 'x'), 2],
    ['a directory that cannot be written', systemError('EACCES', 'mkdir'), 2],
    ['a full disk', systemError('ENOSPC', 'write'), 2],
    ['a directory on a read-only file system, as Node says it', systemError('ENOENT', 'mkdir'), 2],
    ['a file that should be there', systemError('ENOENT', 'open'), 1],
    ['a backend that fails', new EngineError('BACKEND', 'x'), 1],
    ['a command that says it failed', new FailedError('x'), 1],
    ['an interruption', new InterruptedError('x'), 130],
    ['anything that nobody expected', new TypeError('x'), 1],
    ['something that is no error', 'x', 1],
  ])('for %s', (_, error, code) => expect(exitCodeOf(error)).toBe(code));
});

function systemError(code: string, syscall: string): Error {
  return Object.assign(new Error(`${code}: ${syscall}`), { code, syscall });
}

describe('the end of a run', () => {
  const recovered: NonNullable<RunResult['recovered']> = {
    shards: 1,
    answers: 20,
    sequences: 41,
    tokensKept: 1204,
    promptTokensAgain: 8,
    generatedTokensAgain: 30,
    sweepsAgain: 2,
    periodSweeps: 6,
    positionsRead: 2000,
    positionsRebuilt: 12,
  };
  const result: RunResult = {
    runDir: '/data/runs/quickstart',
    outputs: ['outputs/capitals-00000.parquet', 'outputs/capitals-00001.parquet'],
    rows: 240,
    errors: 1,
    promptTokens: 12_000,
    generatedTokens: 3_000,
    seconds: 60,
    shards: 2,
    reusedShards: 0,
    metrics: {
      capitals: { exact_match: { value: 0.61502, stderr: 0.0344, n: 200 } },
      single: { acc: { value: 1, stderr: null, n: 1 } },
    },
  };
  const out = { isTTY: false, write: () => true };
  afterEach(() => vi.unstubAllEnvs());

  it('is for scripts the object that they rely on', () => {
    expect(runJson(result)).toEqual({
      runDir: '/data/runs/quickstart',
      rows: 240,
      errors: 1,
      outputs: [
        '/data/runs/quickstart/outputs/capitals-00000.parquet',
        '/data/runs/quickstart/outputs/capitals-00001.parquet',
      ],
      metrics: result.metrics,
      tokens: { prompt: 12_000, generated: 3_000 },
      seconds: 60,
      generationThroughput: 50,
      recovered: null,
      notes: [],
    });
  });

  it('claims no throughput where parts were there already', () => {
    expect(runJson({ ...result, reusedShards: 1 }).generationThroughput).toBeNull();
    expect(runJson({ ...result, recovered })).toMatchObject({ generationThroughput: null, recovered });
  });

  it('is for people the scores with their errors, the figures, and where everything is', () => {
    const text = runSummary(result, { out, uiAddress: 'http://127.0.0.1:8233/x', uiStops: true });
    expect(text.split('\n')).toEqual([
      '',
      '  task      metric        value  \u00b1 stderr  rows',
      '  capitals  exact_match  0.6150  \u00b1 0.0344   200',
      '  single    acc          1.0000               1',
      '',
      '  240 rows, 12,000 prompt and 3,000 generated tokens in 1 min 00 s (250 tokens/s)',
      '  1 row could not be answered: see the column "error"',
      '',
      '  outputs   /data/runs/quickstart/outputs (2 Parquet files)',
      '  report    /data/runs/quickstart/report.html',
      '  Temporal  http://127.0.0.1:8233/x',
      '            (zigzag ui shows it again)',
      '',
    ]);
  });

  it.each([
    ['nothing was left to do', { reusedShards: 2, seconds: 0 }, 'all answered before, nothing was left to do'],
    [
      'a shard went on in the middle',
      { recovered },
      'one shard went on in the middle: 41 sequences resumed and 20 answers kept, 1,204 tokens in all, 38 computed again',
    ],
    ['checkpoints failed', { notes: ['/data: the disk is full'] }, '  /data: the disk is full'],
    ['a part was left to do', { reusedShards: 1 }, '1 of 2 shards were there already, the rest took 1 min 00 s'],
    [
      'there was nothing at all',
      { shards: 0, reusedShards: 0, rows: 0, outputs: [] },
      'no rows: there was nothing to answer',
    ],
  ])('says so where %s', (_, changed, expected) => {
    expect(runSummary({ ...result, ...changed }, { out })).toContain(expected);
  });

  it('has the same words with colours', () => {
    vi.stubEnv('NO_COLOR', '');
    vi.stubEnv('TERM', 'xterm');
    const coloured = runSummary(result, { out: { ...out, isTTY: true } });
    expect(coloured).not.toBe(stripVTControlCharacters(coloured));
    expect(stripVTControlCharacters(coloured)).toBe(runSummary(result, { out }));
  });
});
