/**
 * Two ways of the same work, measured in turn, and what one is worth in units of the other.
 *
 *     node dist/test/bench/compare.js CASE [--rounds N] [-- FLAGS OF zigzag bench, for both sides]
 *
 * Nothing else may run meanwhile. Ends with exit code 1 where a target is missed.
 */
import { spawnSync } from 'node:child_process';
import { availableParallelism, cpus } from 'node:os';
import { parseArgs } from 'node:util';
import type { BenchFigures } from '../../cli/bench-figures.js';
import { mainPath } from '../support/command.js';
import { atLeast, below, median, print, printChecks } from './checks.js';

interface Comparison {
  readonly what: string;
  readonly work: readonly string[];
  readonly baseline: readonly string[];
  readonly ours: readonly string[];
  /** Generation throughput of ours over the baseline's. */
  readonly target: number;
}

const shape = ['--dummy-weights', '--model', 'llama-1.1b', '--prompt-len', '128', '--gen-len', '16'];
const quarter = ['--host-memory', '550MB'];

const comparisons: Readonly<Record<string, Comparison>> = {
  'quarter-256': {
    what: 'memory of a quarter of the weights, against all in memory, 256 sequences',
    work: [...shape, '--num-sequences', '256'],
    baseline: [],
    ours: quarter,
    target: 0.9,
  },
  'quarter-64': {
    what: 'memory of a quarter of the weights, against all in memory, 64 sequences',
    work: [...shape, '--num-sequences', '64'],
    baseline: [],
    ours: quarter,
    target: 0.75,
  },
  'tenth-256': {
    what: 'memory of a tenth of the weights, against all in memory, 256 sequences',
    work: [...shape, '--num-sequences', '256'],
    baseline: [],
    ours: ['--host-memory', '220MB'],
    target: 0.7,
  },
  overlap: {
    what: 'overlapped reads, against reading and computing in turn',
    work: [...shape, ...quarter, '--num-sequences', '64'],
    baseline: ['--no-overlap'],
    ours: [],
    target: 1.5,
  },
  'shared-prefix': {
    what: 'prompts of which 80 % is common, shared, against each computed whole',
    work: ['--prompt-len', '320', '--shared-prefix', '256', '--gen-len', '8', '--num-sequences', '256'],
    baseline: ['--no-sharing'],
    ours: [],
    target: 3,
  },
  mixed: {
    what: 'the continuous schedule, against the block schedule, completions of 1 to 128 tokens',
    work: ['--prompt-len', '128', '--mixed-lengths', '1:128', '--num-sequences', '256'],
    baseline: ['--schedule', 'block'],
    ours: ['--schedule', 'continuous'],
    target: 1.6,
  },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '3' } },
});
const [name = '', ...flags] = positionals;
const comparison = comparisons[name];
if (!comparison) {
  const cases = Object.entries(comparisons).map(([known, { what }]) => `  ${known.padEnd(13)} ${what}`);
  process.stderr.write(`Name a case:\n${cases.join('\n')}\n`);
  process.exit(2);
}
process.exitCode = compare(comparison, Number(values.rounds)) ? 0 : 1;

/** @returns whether all targets were met */
function compare({ what, work, baseline, ours, target }: Comparison, rounds: number): boolean {
  const sides = { baseline: [...work, ...baseline, ...flags], ours: [...work, ...ours, ...flags] };
  print(`${what}; ${cpus()[0]?.model ?? 'unknown processor'}, ${availableParallelism()} threads`);
  for (const [side, words] of Object.entries(sides)) print(`${side.padEnd(8)} zigzag bench ${words.join(' ')}`);
  const measured: Record<keyof typeof sides, BenchFigures[]> = { baseline: [], ours: [] };
  for (let round = 1; round <= rounds; round++) {
    for (const side of ['baseline', 'ours'] as const) {
      const figures = bench(sides[side]);
      measured[side].push(figures);
      print(`round ${round}  ${side.padEnd(8)}  ${figures.generationThroughput.toFixed(2)} generated tokens/s`);
    }
  }
  const ratio =
    median(measured.ours.map((one) => one.generationThroughput)) /
    median(measured.baseline.map((one) => one.generationThroughput));
  const of = (value: (figures: BenchFigures) => number) => median(measured.ours.map(value));
  const checks = [
    atLeast('ours over baseline', ratio, target),
    atLeast(
      'I/O time hidden',
      of(({ hiddenIoFraction }) => hiddenIoFraction),
      0.9,
    ),
    below(
      'outside kernels',
      of(({ overheadFraction }) => overheadFraction),
      0.05,
    ),
    below(
      'padding',
      of(({ tokens }) => tokens.padded / tokens.actual - 1),
      0.05,
    ),
    below('resident memory over its limit', of(residentShare), 1),
  ];
  return printChecks(checks);
}

function bench(words: readonly string[]): BenchFigures {
  const { status, stdout } = spawnSync(process.execPath, [mainPath, 'bench', ...words, '--json'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 24,
  });
  if (status !== 0) process.exit(status ?? 1);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as BenchFigures;
}

function residentShare({ peakResidentBytes, residentLimitBytes }: BenchFigures): number {
  return residentLimitBytes === null ? 0 : peakResidentBytes / residentLimitBytes;
}
