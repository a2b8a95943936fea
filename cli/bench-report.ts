/** A benchmark's figures as people read them: measured beside the bound. */
import type { Prediction } from '../engine/policy/plan.js';
import type { BenchFigures } from './bench-figures.js';
import { formatBytes, formatCount, formatTable } from './terminal.js';

export function formatFigures(figures: BenchFigures, predicted: Prediction | null = null): string {
  const { bound, peakBytes, bytesMoved, tokens } = figures;
  const row = (name: string, measured: string, limit = '', expected = '') => {
    return [name, measured, limit, ...(predicted ? [expected] : [])];
  };
  const expected = (value: (prediction: Prediction) => string) => (predicted ? value(predicted) : '');
  const rows = [
    row('', 'measured', 'bound', 'predicted'),
    row(
      'prefill latency',
      seconds(figures.prefillSeconds),
      '',
      expected(({ prefillSeconds }) => seconds(prefillSeconds)),
    ),
    row('prefill throughput', perSecond(figures.prefillThroughput)),
    row(
      'decode latency',
      seconds(figures.decodeSeconds),
      '',
      expected(({ decodeSeconds }) => seconds(decodeSeconds)),
    ),
    row('decode throughput', perSecond(figures.decodeThroughput)),
    row(
      'total latency',
      seconds(figures.totalSeconds),
      seconds(bound.seconds),
      expected(({ totalSeconds }) => seconds(totalSeconds)),
    ),
    row(
      'generation throughput',
      perSecond(figures.generationThroughput),
      perSecond(bound.generationThroughput),
      expected(({ generationThroughput }) => perSecond(generationThroughput)),
    ),
    row('arithmetic', seconds(figures.kernelSeconds), seconds(bound.computeSeconds)),
    row(
      'waiting for I/O',
      seconds(total(figures.waitSeconds)),
      seconds(bound.ioSeconds),
      expected(({ steps }) => seconds(steps.waiting)),
    ),
    row(
      'products and norms',
      seconds(figures.steps.products),
      '',
      expected(({ steps }) => seconds(steps.products)),
    ),
    row(
      'attention',
      seconds(figures.steps.attention),
      '',
      expected(({ steps }) => seconds(steps.attention)),
    ),
    row('outside kernels', percent(figures.overheadFraction)),
    row('I/O hidden', percent(figures.hiddenIoFraction)),
  ];
  const moved = Object.entries(bytesMoved).map(([what, bytes]) => `${movedNames[what] ?? what} ${formatBytes(bytes)}`);
  const peaks = Object.entries(peakBytes).map(([tier, bytes]) => `${tier} ${formatBytes(bytes)}`);
  const padding = tokens.padded / tokens.actual - 1;
  return [
    formatTable(rows),
    '',
    formatTable([
      ['peak of each tier', peaks.join(', ')],
      ['resident memory', resident(figures)],
      ['moved', moved.join(', ')],
      [
        'rows computed',
        `${formatCount(tokens.padded)}, of which ${percent(padding)} padding; ${figures.sweeps} sweeps`,
      ],
      [
        'bound',
        `${formatRate(bound.flops, 'FLOP')} at ${formatRate(bound.flopsPerSecond, 'FLOP')}/s; ${boundBytes(figures)}`,
      ],
      ...(figures.runSeconds.length > 1 ? [['runs', figures.runSeconds.map(seconds).join(', ')]] : []),
    ]),
    '',
    '  A sweep computes rows of prompts and of decoding together; its seconds are divided by their numbers.',
  ].join('\n');
}

const movedNames: Readonly<Record<string, string>> = {
  weights: 'weights',
  kvRead: 'KV read',
  kvWrite: 'KV written',
  activations: 'activations',
};

function resident({ peakResidentBytes, residentLimitBytes }: BenchFigures): string {
  const peak = `${formatBytes(peakResidentBytes)} at most`;
  if (residentLimitBytes === null) return peak;
  const above = peakResidentBytes > residentLimitBytes;
  return `${peak}, ${above ? 'ABOVE' : 'below'} ${formatBytes(residentLimitBytes)} (budget + 400 MiB)`;
}

function boundBytes({ bound }: BenchFigures): string {
  if (bound.bytes === 0) return 'nothing moved';
  return `${formatBytes(bound.bytes)} at ${formatBytes(bound.diskBytesPerSecond)}/s`;
}

/** Decimal units, as FLOPs are counted. */
function formatRate(value: number, unit: string): string {
  const prefixes = ['', 'k', 'M', 'G', 'T', 'P', 'E'];
  const power = Math.min(prefixes.length - 1, Math.max(0, Math.floor(Math.log10(value) / 3)));
  return `${(value / 1000 ** power).toPrecision(3)} ${prefixes[power]}${unit}`;
}

function seconds(value: number): string {
  return `${value.toFixed(value < 10 ? 3 : 1)} s`;
}

function perSecond(value: number): string {
  return `${value < 100 ? value.toFixed(2) : formatCount(value)} tokens/s`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function total(values: Readonly<Record<string, number>>): number {
  return Object.values(values).reduce((sum, value) => sum + value, 0);
}
