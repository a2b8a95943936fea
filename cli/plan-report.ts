/** A plan as people read it, and as scripts do. */
import type { PackedType } from '../engine/memory/packed.js';
import type { TierName } from '../engine/memory/tier.js';
import type { HardwareProfile } from '../engine/policy/hardware.js';
import { type Plan, weightBitsOf } from '../engine/policy/plan.js';
import type { Alternative, SearchResult } from '../engine/policy/search.js';
import type { PlanWork } from './plan-work.js';
import { formatBytes, formatCount, formatDuration, formatTable } from './terminal.js';

export interface PlanReport {
  readonly work: PlanWork;
  readonly profile: HardwareProfile;
  readonly capacityBytes: Readonly<Record<TierName, number>>;
  readonly found: SearchResult;
}

/** The contract of `plan --json`. */
export function planJson({ work, profile, found }: PlanReport) {
  return {
    model: work.model,
    hardware: profile.name,
    workload: work.workload,
    ...policyJson(found.best),
    alternatives: found.alternatives.map(({ field, value, plan }) => ({
      change: { [jsonField(field)]: jsonValue(value) },
      feasible: plan !== undefined,
      ...(plan && policyJson(plan)),
    })),
    searchSeconds: found.searchSeconds,
  };
}

function policyJson({ choice, fractions, predicted }: Plan) {
  const { gpuBatchSize, numGpuBatches, weightType, kvBits, schedule, attention } = choice;
  return {
    policy: {
      gpuBatchSize,
      numGpuBatches,
      weightBits: weightBitsOf(weightType),
      kvBits,
      schedule,
      attention,
      fractions,
    },
    predicted,
  };
}

function jsonField(field: string): string {
  return field === 'weightType' ? 'weightBits' : field;
}

function jsonValue(value: Alternative['value']): Alternative['value'] | number {
  return isPackedType(value) ? weightBitsOf(value) : value;
}

function isPackedType(value: unknown): value is PackedType {
  return value === 'float32' || value === 'float16' || value === 'int8' || value === 'int4';
}

export function formatPlan({ work, profile, capacityBytes, found }: PlanReport): string {
  const { workload, model } = work;
  const { best, alternatives } = found;
  const { predicted } = best;
  const heading =
    `${model} on ${profile.name}: ${formatCount(workload.numSequences)} sequences of ${formatCount(workload.promptTokens)} prompt tokens, ` +
    `${formatCount(workload.newTokens)} new tokens each at most`;
  return [
    heading,
    '',
    inWords(best),
    '',
    formatTable([
      ['', 'gpu', 'cpu', 'disk'],
      ...(['weights', 'kv', 'activations'] as const).map((placed) => {
        const { gpu, cpu, disk } = best.fractions[placed];
        return [placed === 'kv' ? 'KV cache' : placed, percent(gpu), percent(cpu), percent(disk)];
      }),
      ['bytes at most', ...tiers.map((tier) => formatBytes(predicted.peakBytes[tier]))],
      ['of', ...tiers.map((tier) => (capacityBytes[tier] === 0 ? '-' : formatBytes(capacityBytes[tier])))],
    ]),
    '',
    formatTable([
      ['time', `${formatDuration(predicted.totalSeconds)} (${(predicted.totalSeconds / 3600).toFixed(2)} h)`],
      ['prefill, decode', `${formatDuration(predicted.prefillSeconds)}, ${formatDuration(predicted.decodeSeconds)}`],
      ['generation', `${rate(predicted.generationThroughput)} tokens/s`],
      ['bound by', `${boundNames[predicted.bound] ?? predicted.bound}, ${percent(predicted.boundShare)} of the time`],
    ]),
    '',
    'Otherwise, at best:',
    formatTable([
      ['', 'tokens/s', 'of this plan', 'GPU batch'],
      ...alternatives.map((alternative) => alternativeRow(alternative, predicted.generationThroughput)),
    ]),
    '',
    `Searched in ${found.searchSeconds.toFixed(1)} s. Completions that end early take less.`,
  ].join('\n');
}

const tiers = ['gpu', 'cpu', 'disk'] as const;

const boundNames: Readonly<Record<string, string>> = {
  compute: 'arithmetic',
  hostCompute: 'attention on the cpu',
  hostToDevice: 'the way to the device',
  deviceToHost: 'the way from the device',
  host: 'both ways of the device at once',
  diskRead: 'reading the disk',
  diskWrite: 'writing the disk',
  disk: 'reading and writing the disk at once',
  all: 'one thing after the other',
};

function inWords({ choice, fractions }: Plan): string {
  const { gpuBatchSize, numGpuBatches, schedule, weightType, kvBits, attention } = choice;
  const batches = numGpuBatches === 1 ? 'one GPU batch' : `${numGpuBatches} GPU batches`;
  const attends = attention === 'cpu' && fractions.kv.gpu < 1 ? '; the cpu attends to what is not on the gpu' : '';
  return (
    `  ${batches} of ${formatCount(gpuBatchSize)} sequences, ${schedule} schedule; weights of ${weightBitsOf(weightType)} bits, ` +
    `KV cache of ${kvBits} bits${attends}`
  );
}

function alternativeRow({ field, value, plan }: Alternative, best: number): string[] {
  const what = `${fieldNames[field]} ${isPackedType(value) ? `${weightBitsOf(value)} bits` : fieldValue(field, value)}`;
  if (!plan) return [what, 'does not fit', '', ''];
  const { generationThroughput } = plan.predicted;
  const { gpuBatchSize, numGpuBatches } = plan.choice;
  return [what, rate(generationThroughput), percent(generationThroughput / best), `${gpuBatchSize} x ${numGpuBatches}`];
}

function fieldValue(field: Alternative['field'], value: Alternative['value']): string {
  return field === 'kvBits' ? `${value} bits` : String(value);
}

const fieldNames: Readonly<Record<Alternative['field'], string>> = {
  gpuBatchSize: 'GPU batch of',
  numGpuBatches: 'GPU batches:',
  schedule: 'schedule',
  weightType: 'weights of',
  kvBits: 'KV cache of',
  attention: 'attention on the',
  resident: 'all weights in memory:',
};

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function rate(value: number): string {
  return value < 10 ? value.toFixed(3) : value.toFixed(1);
}
