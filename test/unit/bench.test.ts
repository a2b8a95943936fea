import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { readPolicy } from '../../activities/policy-file.js';
import { type BenchRun, figuresOf, type Measured } from '../../cli/bench-figures.js';
import { watchMemory } from '../../cli/bench-memory.js';
import { openBenchProgress } from '../../cli/bench-progress.js';
import { formatFigures } from '../../cli/bench-report.js';
import { lengthRange, longestOf, makeRequests } from '../../cli/bench-work.js';
import { InputError } from '../../datasets/errors.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import type { Tokenizer } from '../../engine/model/tokenizer.js';
import { residentPolicy } from '../../engine/policy/policy.js';
import type { GenerateResult } from '../../engine/requests.js';
import { Trace, totalsBetween } from '../../engine/trace.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-bench-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const config = namedShape('llama-1.1b');
/** One token a character. */
const tokenizer = { encode: async (text: string) => [...text].map((letter) => letter.charCodeAt(0)) } as Tokenizer;
const shape = { config, tokenizer: undefined };
const policy = residentPolicy({ gpuBatchSize: 2, numGpuBatches: 1, schedule: 'continuous', overlap: true });

describe('the work of a benchmark', () => {
  it('is as many random prompts of the length asked for, the same every time, and never ends early', async () => {
    const options = { promptLen: 100, genLen: 7, numSequences: 5 };
    const requests = await makeRequests(shape, options);
    expect(requests).toHaveLength(5);
    for (const { prompt, maxNewTokens, ignoreEos, stop } of requests) {
      expect(prompt).toHaveLength(100);
      expect({ maxNewTokens, ignoreEos, stop }).toEqual({ maxNewTokens: 7, ignoreEos: true, stop: [] });
    }
    const ids = requests.flatMap(({ prompt }) => prompt as number[]);
    expect(Math.min(...ids)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...ids)).toBeLessThan(32_000);
    expect(new Set(ids).size).toBeGreaterThan(450);
    expect(await makeRequests(shape, options)).toEqual(requests);
    expect(longestOf(requests)).toBe(107);
  });

  it('has completions of all lengths of a range, and the same prompts as without', async () => {
    const options = { promptLen: 3, genLen: 7, numSequences: 200 };
    const mixed = await makeRequests(shape, { ...options, mixedLengths: lengthRange('1:8') });
    expect([...new Set(mixed.map(({ maxNewTokens }) => maxNewTokens))].sort()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    const plain = await makeRequests(shape, options);
    expect(mixed.map(({ prompt }) => prompt)).toEqual(plain.map(({ prompt }) => prompt));
  });

  it.each([
    [
      'lines of text',
      'p.txt',
      'ab\n\ncde\r\n',
      [
        [97, 98],
        [99, 100, 101],
      ],
    ],
    ['JSON lines', 'p.jsonl', '{"prompt": "ab"}\n"c"\n{"prompt": [5, 6], "id": 1}\n', [[97, 98], [99], [5, 6]]],
  ])('can be prompts of a file: %s', async (_, name, text, prompts) => {
    const model = { config, tokenizer };
    const requests = await makeRequests(model, { prompts: file(name, text), genLen: 1 });
    expect(requests.map(({ prompt }) => prompt)).toEqual(prompts);
    const more = await makeRequests(model, { prompts: file(name, text), genLen: 1, numSequences: prompts.length + 1 });
    expect(more.at(-1)?.prompt).toEqual(prompts[0]);
  });

  it.each([
    ['no file', () => 'nowhere.txt', /nowhere.txt does not exist/],
    ['a file without prompts', () => file('empty.txt', '\n\n'), /empty.txt has no prompts/],
    ['text for a model without a tokenizer', () => file('text.txt', 'a\n'), /text.txt:1: this model has no tokenizer/],
    ['a line that is no JSON', () => file('bad.jsonl', '"a"\n{\n'), /bad.jsonl:2: is not valid JSON/],
    ['an object without a prompt', () => file('none.jsonl', '{"text": 1}\n'), /none.jsonl:1: needs a string/],
  ])('is refused where there is %s', async (name, path, message) => {
    const model = name.startsWith('text') ? shape : { config, tokenizer };
    const made = makeRequests(model, { prompts: path(), genLen: 1 });
    await expect(made).rejects.toThrow(message);
    await expect(made).rejects.toThrow(InputError);
  });

  it('is refused where it does not fit into the context', async () => {
    const made = makeRequests(shape, { promptLen: 2000, genLen: 49 });
    await expect(made).rejects.toThrow('--prompt-len: a prompt of 2000 tokens and a completion of 49 take 2049');
    expect(await makeRequests(shape, { promptLen: 2000, genLen: 48 })).toHaveLength(64);
  });

  it.each(['128', '0:5', '5:4', '1-5', 'a:b'])('does not take %j as a range of lengths', (text) => {
    expect(() => lengthRange(text)).toThrow('such as 1:128');
  });
});

describe('a policy file', () => {
  it('gives the values that are in it', () => {
    const path = file(
      'policy.json',
      '{"gpuBatchSize": 8, "overlap": false, "weights": {"gpu": 0, "cpu": 0.5, "disk": 0.5}}',
    );
    expect(readPolicy(path)).toEqual({ gpuBatchSize: 8, overlap: false, weights: { gpu: 0, cpu: 0.5, disk: 0.5 } });
  });

  it.each([
    ['no JSON', '{', /is not valid JSON/],
    ['a list', '[]', /needs an object/],
    ['an unknown key', '{"gpu_batch_sise": 8}', /did you mean "gpuBatchSize"/],
    ['a wrong type', '{"overlap": "no"}', /overlap: needs true or false, found "no"/],
    ['a part of a sequence', '{"gpuBatchSize": 1.5}', /gpuBatchSize: needs a number of at least 1, found 1.5/],
    ['a tier left out', '{"kv": {"cpu": 1}}', /kv: needs shares from 0 to 1/],
    ['an unknown schedule', '{"schedule": "zigzag"}', /"continuous" or "block"/],
  ])('with %s is refused', (_, text, message) => {
    const path = file('bad.json', text);
    expect(() => readPolicy(path)).toThrow(message);
    expect(() => readPolicy(path)).toThrow(path);
  });

  it('that is not there is refused', () => {
    expect(() => readPolicy(join(directory, 'nowhere.json'))).toThrow(/nowhere.json/);
  });
});

describe('the figures of a benchmark', () => {
  // Two sequences of 10 tokens with 5 and 3 generated: 20 prompt rows, 4 + 2 decode rows.
  const trace = new Trace();
  trace.sweep(20, 0, 4);
  trace.sweep(0, 6, 4);
  trace.kernel(6);
  trace.moved('weights', 300);
  trace.moved('kvRead', 100);
  trace.waited('weights', 0.5);
  const results = [5, 3].map((length, i) => ({ ...result(`${i}`), tokens: Array(length).fill(1), promptTokens: 10 }));
  const run = (seconds: number): BenchRun => ({ seconds, totals: trace.totals(), results });
  const measured: Measured = {
    config,
    policy,
    runs: [run(10)],
    peakBytes: { gpu: 0, cpu: 700, disk: 900 },
    peakResidentBytes: 5e8,
    hostMemoryBytes: 1e8,
    rates: { flopsPerSecond: 1e12, diskBytesPerSecond: 100 },
  };

  it("are FlexGen's, with prefill and decoding making up the whole", () => {
    expect(figuresOf(measured)).toMatchObject({
      prefillSeconds: 5,
      decodeSeconds: 5,
      totalSeconds: 10,
      prefillThroughput: 4,
      // The first token of each sequence is prefill's.
      decodeThroughput: (8 - 2) / 5,
      generationThroughput: 0.8,
      rows: 2,
      promptTokens: 20,
      generatedTokens: 8,
      tokens: { padded: 26, actual: 26 },
      bytesMoved: { weights: 300, kvRead: 100, kvWrite: 0, activations: 0 },
    });
  });

  it('have the bound of the bytes that moved, and what of it was hidden', () => {
    const { bound, hiddenIoFraction, overheadFraction } = figuresOf(measured);
    expect(bound).toMatchObject({ bytes: 400, ioSeconds: 4, seconds: 4, generationThroughput: 2 });
    expect(hiddenIoFraction).toBe(1 - 0.5 / 4);
    expect(overheadFraction).toBeCloseTo(1 - (6 + 0.5) / 10, 12);
  });

  it('are those of the median run', () => {
    expect(figuresOf({ ...measured, runs: [run(30), run(10), run(20)] })).toMatchObject({
      totalSeconds: 20,
      runSeconds: [30, 10, 20],
    });
  });

  it.each([
    ['below', 5e8, 'below 519 MB (budget + 400 MiB)'],
    ['above', 6e8, 'ABOVE 519 MB (budget + 400 MiB)'],
  ])('say whether memory stayed %s its limit', (_, peakResidentBytes, text) => {
    const figures = figuresOf({ ...measured, peakResidentBytes });
    expect(figures.residentLimitBytes).toBe(1e8 + 400 * 1024 * 1024);
    expect(formatFigures(figures)).toContain(text);
  });

  it('name no limit without a budget', () => {
    const figures = figuresOf({ ...measured, hostMemoryBytes: undefined });
    expect(figures.residentLimitBytes).toBeNull();
    expect(formatFigures(figures)).not.toContain('400 MiB');
  });

  it('of one run are what was counted since the run before', () => {
    const later = new Trace();
    later.sweep(20, 0, 4);
    const before = later.totals();
    later.sweep(10, 5, 3);
    later.moved('kvWrite', 7);
    expect(totalsBetween(before, later.totals())).toMatchObject({
      sweeps: 1,
      rows: 15,
      promptRows: 10,
      decodeRows: 5,
      prefillSeconds: 2,
      decodeSeconds: 1,
      bytesMoved: { weights: 0, kvRead: 0, kvWrite: 7, activations: 0 },
    });
  });
});

describe('the memory watch', () => {
  it('sees what was held only for a while', async () => {
    const before = process.memoryUsage.rss();
    const watch = watchMemory();
    let held: Uint8Array | undefined = new Uint8Array(200e6).fill(1);
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(held.length).toBe(200e6);
    held = undefined;
    expect(watch.stop()).toBeGreaterThan(before + 150e6);
  });
});

describe('progress', () => {
  it('is written over on a terminal and gone at the end', async () => {
    vi.stubEnv('TERM', 'xterm');
    const written: string[] = [];
    const progress = openBenchProgress({ isTTY: true, write: (text) => written.push(text) });
    const state = { finished: 1, total: 4, promptTokens: 2048, generatedTokens: 8, live: 3 };
    progress.update(state, 1, 2);
    await new Promise((resolve) => setTimeout(resolve, 250));
    progress.update(state, 1, 2);
    progress.stop();
    const [line, end] = written;
    expect(line).toMatch(/^\r.*run 1\/2 · 1\/4 sequences, 3 live · 2,048 prompt tokens, 8 generated/);
    expect(end).not.toContain('\n');
    expect(written).toHaveLength(2);
  });
});

function result(id: string): GenerateResult {
  return { kind: 'generate', id, text: '', tokens: [], finishReason: 'length', promptTokens: 0, logprobs: [] };
}
