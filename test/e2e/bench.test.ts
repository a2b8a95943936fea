import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BenchFigures } from '../../cli/bench-figures.js';
import { zigzag } from '../support/command.js';

const model = 'test/fixtures/stories260k';
const BUDGET = 20e6;
/** 5 layers of 64 x (128 + 64) and 3 x 64 x 172, and a tied head of 512 x 64. */
const MATRIX_VALUES = 5 * (64 * 128 + 64 * 64 + 3 * 64 * 172) + 512 * 64;

let directory: string;
let policy: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-bench-'));
  policy = join(directory, 'policy.json');
  // Far below what the budget suggests, so that such a small model streams at all.
  writeFileSync(policy, JSON.stringify({ weights: { gpu: 0, cpu: 0.25, disk: 0.75 }, maxRows: 128 }));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** 12 sequences of 40 and 9 tokens. */
const work = ['--prompt-len', '40', '--gen-len', '9', '--num-sequences', '12', '--threads', '1'];
const bench = (...words: string[]) => zigzag(['bench', '--model', model, '--offload-dir', directory, ...words]);

describe('zigzag bench', () => {
  it.each([
    ['continuous', []],
    ['block', ['--schedule', 'block']],
    ['serial', ['--no-overlap']],
    ['two GPU batches', ['--gpu-batch-size', '3', '--num-gpu-batches', '2']],
  ])('streams a model within its budget and says what it cost: %s', (_, words) => {
    const budget = ['--host-memory', '20MB', '--policy', policy];
    const { code, stderr, stdout, json } = bench(...work, ...budget, ...words, '--json');
    expect(stderr).not.toContain('error:');
    expect(code).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    const figures = json as BenchFigures;
    expect(figures).toMatchObject({
      rows: 12,
      promptTokens: 12 * 40,
      generatedTokens: 12 * 9,
      // The last token of a sequence is chosen, and not computed with.
      tokens: { padded: 12 * (40 + 8), actual: 12 * (40 + 8) },
      residentLimitBytes: BUDGET + 400 * 2 ** 20,
    });
    const { prefillSeconds, decodeSeconds, totalSeconds, bound, bytesMoved, peakBytes, sweeps } = figures;
    expect(prefillSeconds).toBeGreaterThan(0);
    expect(decodeSeconds).toBeGreaterThan(0);
    expect(prefillSeconds + decodeSeconds).toBeCloseTo(totalSeconds, 9);
    expect(figures.generationThroughput).toBeCloseTo((12 * 9) / totalSeconds, 6);
    expect(figures.prefillThroughput).toBeCloseTo((12 * 40) / prefillSeconds, 6);
    expect(figures.decodeThroughput).toBeCloseTo((12 * 8) / decodeSeconds, 6);
    expect(figures.hiddenIoFraction).toBeGreaterThanOrEqual(0);
    expect(figures.hiddenIoFraction).toBeLessThanOrEqual(1);
    expect(figures.overheadFraction).toBeGreaterThanOrEqual(0);
    expect(figures.overheadFraction).toBeLessThan(1);
    expect(figures.peakResidentBytes).toBeGreaterThan(peakBytes.cpu);
    expect(peakBytes.gpu).toBe(0);
    expect(peakBytes.cpu).toBeLessThanOrEqual(BUDGET);
    expect(peakBytes.cpu).toBeGreaterThan(0);
    // Three quarters of the matrices pass by in every sweep, at two bytes a value.
    const swept = 2 * MATRIX_VALUES;
    expect(bytesMoved.weights).toBeGreaterThan(0.6 * swept * sweeps);
    expect(bytesMoved.weights).toBeLessThan(swept * sweeps);
    expect(peakBytes.disk).toBeGreaterThanOrEqual(swept);
    expect(figures.policy.weights.disk).toBeGreaterThan(0.6);
    expect(bound.bytes).toBe(Object.values(bytesMoved).reduce((sum, bytes) => sum + bytes));
    expect(bound.seconds).toBe(Math.max(bound.computeSeconds, bound.ioSeconds));
    expect(bound.generationThroughput).toBeCloseTo((12 * 9) / bound.seconds, 6);
  });

  it('makes the offload store once', () => {
    const stores = () => readdirSync(directory).filter((name) => name.endsWith('-fp16'));
    const run = () => bench(...work, '--host-memory', '20MB', '--policy', policy, '--repeat', '2', '--json');
    expect((run().json as BenchFigures).runSeconds).toHaveLength(2);
    const made = stores();
    expect(made).toHaveLength(1);
    const header = () => readFileSync(join(directory, made[0]!, 'store.json'), 'utf8');
    const before = header();
    run();
    expect(stores()).toEqual(made);
    expect(header()).toBe(before);
  });

  it('holds everything in memory without a budget, and shows people a table', () => {
    const { code, stdout, stderr } = bench('--prompt-len', '5', '--mixed-lengths', '1:6', '--num-sequences', '10');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/measured +bound/);
    for (const figure of ['prefill latency', 'decode throughput', 'generation throughput', 'peak of each tier']) {
      expect(stdout).toContain(figure);
    }
    expect(stdout).toContain('weights 0 B');
    expect(stdout).toContain('I/O hidden             100.0 %');
  });

  it.each([
    ['4', 'int4'],
    ['8', 'int8'],
  ])('holds weights in %s bits in memory where asked, without a budget', (bits, form) => {
    const { code, stderr, json } = bench(...work, '--weight-bits', bits, '--json');
    expect(code).toBe(0);
    expect(stderr).toContain(`(store, ${form})`);
    const { peakBytes, policy: used } = json as BenchFigures;
    expect(used.weights).toEqual({ gpu: 0, cpu: 1, disk: 0 });
    // The store's own bytes: values, scales and minima.
    expect(peakBytes.disk).toBeGreaterThan((MATRIX_VALUES * Number(bits)) / 8);
    expect(peakBytes.disk).toBeLessThan((2 * MATRIX_VALUES * Number(bits)) / 8 + 200_000);
  });

  it('takes prompts from a file', () => {
    const prompts = join(directory, 'prompts.txt');
    writeFileSync(prompts, 'Once upon a time\nThe cat\n\nA dog sat\n');
    const { json } = bench('--prompts', prompts, '--gen-len', '2', '--json');
    expect(json).toMatchObject({ rows: 3, generatedTokens: 6 });
  });

  it('writes a timeline that Chrome reads', () => {
    const path = join(directory, 'trace.json');
    const { code, json } = bench(
      '--prompt-len',
      '5',
      '--gen-len',
      '3',
      '--num-sequences',
      '2',
      '--trace',
      path,
      '--json',
    );
    expect(code).toBe(0);
    const { traceEvents } = JSON.parse(readFileSync(path, 'utf8')) as { traceEvents: { cat: string; dur: number }[] };
    const heads = traceEvents.filter(({ cat }) => cat === 'head');
    expect(heads).toHaveLength((json as BenchFigures).sweeps);
    expect(traceEvents.filter(({ cat }) => cat === 'attend')).toHaveLength(5 * heads.length);
  });

  it.each([
    ['an unknown shape', ['--dummy-weights', '--model', 'opt-1b'], 'no model shape is called "opt-1b"'],
    ['a budget that holds no sequence', ['--host-memory', '100kB', '--prompt-len', '9'], 'raise --host-memory'],
    [
      'a disk that holds no store',
      ['--host-memory', '20MB', '--disk-memory', '1kB', '--prompt-len', '9'],
      '--disk-memory',
    ],
    ['a size that is none', ['--host-memory', 'much'], 'such as 550MB'],
    ['other bits', ['--weight-bits', '3'], 'must be 4, 8, 16 or 32'],
    ['sequences longer than the context', ['--prompt-len', '500'], "the model's context holds 512"],
    ['two kinds of prompts', ['--prompts', 'a', '--prompt-len', '3'], 'exclude each other'],
    ['a policy that is not there', ['--policy', 'nowhere.json'], 'nowhere.json'],
    ['a share of a gpu', ['--policy', 'GPU', '--prompt-len', '9'], 'no gpu here'],
    ['a timeline that cannot be written', ['--trace', '/nowhere/t.json'], '--trace: /nowhere/t.json cannot be written'],
  ])('refuses %s with exit code 2, one message and no stack trace', (_, words, message) => {
    const gpu = join(directory, 'gpu.json');
    writeFileSync(gpu, JSON.stringify({ weights: { gpu: 0.5, cpu: 0.5, disk: 0 } }));
    const { code, stdout, stderr } = bench(...words.map((word) => (word === 'GPU' ? gpu : word)));
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});
