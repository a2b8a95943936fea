/**
 * Predicted against measured, on a grid of cases of one machine; and the searched policy against a sweep over batch sizes.
 *
 *     node dist/test/bench/predictions.js grid      each case by the searched policy
 *     node dist/test/bench/predictions.js sweep     one case by every batch size and schedule, beside the searched policy
 *
 * `zigzag doctor` measures the machine first. Nothing else may run meanwhile; each takes about a quarter of an hour. Writes a Markdown
 * table, and ends with exit code 1 where a target is missed.
 */
import { spawnSync } from 'node:child_process';
import type { BenchFigures } from '../../cli/bench-figures.js';
import type { Prediction } from '../../engine/policy/plan.js';
import { mainPath } from '../support/command.js';

interface Case {
  readonly model: string;
  readonly budget: string;
  readonly bits: number;
  /** Absent: searched too. */
  readonly schedule?: 'continuous' | 'block';
  readonly promptLen: number;
  readonly genLen: number;
  readonly sequences: number;
}

/** Between predicted and measured generation throughput. */
const MOST_ERROR = 0.15;
/** Of the best that the sweep finds. */
const LEAST_SHARE = 0.95;

const cases: readonly Case[] = [
  { model: 'opt-125m', budget: '150MB', bits: 16, schedule: 'continuous', promptLen: 128, genLen: 32, sequences: 64 },
  { model: 'opt-125m', budget: '400MB', bits: 16, schedule: 'block', promptLen: 128, genLen: 32, sequences: 96 },
  { model: 'opt-125m', budget: '1GB', bits: 16, schedule: 'continuous', promptLen: 256, genLen: 16, sequences: 64 },
  { model: 'opt-125m', budget: '150MB', bits: 8, schedule: 'continuous', promptLen: 64, genLen: 64, sequences: 64 },
  { model: 'qwen3-0.6b', budget: '450MB', bits: 16, schedule: 'continuous', promptLen: 128, genLen: 16, sequences: 32 },
  { model: 'qwen3-0.6b', budget: '450MB', bits: 16, schedule: 'block', promptLen: 128, genLen: 16, sequences: 32 },
  { model: 'qwen3-0.6b', budget: '350MB', bits: 4, schedule: 'continuous', promptLen: 64, genLen: 32, sequences: 32 },
  { model: 'qwen3-0.6b', budget: '3GB', bits: 16, schedule: 'continuous', promptLen: 128, genLen: 32, sequences: 32 },
  { model: 'llama-1.1b', budget: '550MB', bits: 16, schedule: 'continuous', promptLen: 128, genLen: 16, sequences: 32 },
  { model: 'llama-1.1b', budget: '550MB', bits: 8, schedule: 'continuous', promptLen: 128, genLen: 16, sequences: 32 },
  { model: 'llama-1.1b', budget: '1100MB', bits: 16, schedule: 'block', promptLen: 192, genLen: 8, sequences: 24 },
  { model: 'llama-1.1b', budget: '4GB', bits: 16, schedule: 'continuous', promptLen: 128, genLen: 16, sequences: 32 },
];

type Figures = BenchFigures & { readonly predicted: Prediction | null };

const modes: Readonly<Record<string, () => boolean>> = { grid, sweep };
const mode = modes[process.argv[2] ?? ''];
if (!mode) {
  process.stderr.write(`Name what to measure: ${Object.keys(modes).join(', ')}\n`);
  process.exit(2);
}
process.exitCode = mode() ? 0 : 1;

function grid(): boolean {
  print(['Model', 'Memory', 'Bits', 'Schedule', 'Prompt/new', 'Sequences', 'policy', 'predicted', 'measured', 'error']);
  print(Array.from({ length: 10 }, () => '---'));
  return cases
    .map((one) => {
      const figures = bench(one);
      const predicted = figures.predicted!.generationThroughput;
      const error = predicted / figures.generationThroughput - 1;
      print([
        one.model,
        one.budget,
        `${one.bits}`,
        one.schedule!,
        `${one.promptLen}/${one.genLen}`,
        `${one.sequences}`,
        policyOf(figures),
        predicted.toFixed(2),
        figures.generationThroughput.toFixed(2),
        `${(100 * error).toFixed(1)} %`,
      ]);
      return Math.abs(error) <= MOST_ERROR;
    })
    .every(Boolean);
}

function sweep(): boolean {
  const one = cases.find(({ model, schedule }) => model === 'qwen3-0.6b' && schedule === 'continuous')!;
  print(['policy', 'predicted', 'measured']);
  print(['---', '---', '---']);
  const row = (name: string, figures: Figures) => {
    const predicted = figures.predicted!.generationThroughput.toFixed(2);
    print([`${name}${policyOf(figures)}`, predicted, figures.generationThroughput.toFixed(2)]);
    return figures.generationThroughput;
  };
  const swept = [8, 16, 24, 32, 48].flatMap((size) =>
    (['continuous', 'block'] as const).map((schedule) => {
      return row('', bench({ ...one, schedule }, ['--gpu-batch-size', `${size}`]));
    }),
  );
  const { schedule: _, ...free } = one;
  const searched = row('searched: ', bench(free));
  return searched >= LEAST_SHARE * Math.max(...swept);
}

function bench(
  { model, budget, bits, schedule, promptLen, genLen, sequences }: Case,
  more: readonly string[] = [],
): Figures {
  const words = [
    ...['bench', '--dummy-weights', '--model', model, '--host-memory', budget, '--weight-bits', `${bits}`],
    ...(schedule ? ['--schedule', schedule] : []),
    ...['--prompt-len', `${promptLen}`, '--gen-len', `${genLen}`, '--num-sequences', `${sequences}`, ...more, '--json'],
  ];
  const { status, stdout } = spawnSync(process.execPath, [mainPath, ...words], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 24,
  });
  if (status !== 0) process.exit(status ?? 1);
  const figures = JSON.parse(stdout.trim().split('\n').at(-1)!) as Figures;
  if (figures.predicted) return figures;
  process.stderr.write('This machine is not measured: run zigzag doctor first\n');
  process.exit(2);
}

function policyOf({ policy }: Figures): string {
  const percent = (share: number) => `${Math.round(100 * share)} %`;
  const { gpuBatchSize, numGpuBatches, schedule, weights, kv } = policy;
  return `${gpuBatchSize} x ${numGpuBatches}, ${schedule}, in memory: weights ${percent(weights.cpu)}, KV ${percent(kv.cpu)}`;
}

function print(cells: readonly string[]): void {
  process.stdout.write(`| ${cells.join(' | ')} |\n`);
}
