/**
 * What is to be computed, as the cost model sees it, and the sweeps that it takes.
 *
 * The sweeps are those of the loop: the same door lets sequences in that are alike, of mean length, and they are counted. Of
 * a long queue only the beginning and the end are walked through; in between the sweeps repeat.
 */
import { blocksFor } from '../memory/kv-layout.js';
import { openDoor } from '../schedule/door.js';
import { GenerateSequence } from '../sequence.js';
import type { Policy } from './policy.js';

export interface Workload {
  readonly numSequences: number;
  /** Means. */
  readonly promptTokens: number;
  readonly newTokens: number;
  /** The longest sequence, prompt and completion together: what memory is planned for. */
  readonly contextTokens: number;
}

/** Sweeps that are much alike, with the means of what they compute. */
export interface SweepGroup {
  readonly count: number;
  readonly promptRows: number;
  readonly decodeRows: number;
  /** Sequences whose prompts enter. */
  readonly newcomers: number;
  /** Blocks of the KV cache that the decoding rows see, of one layer. */
  readonly cachedBlocks: number;
}

export type SweepPolicy = Pick<Policy, 'gpuBatchSize' | 'numGpuBatches' | 'schedule' | 'maxRows' | 'paced'>;

/** @param perDoubling how finely rows are told apart: groups in which they double */
export function sweepsOf(policy: SweepPolicy, workload: Workload, perDoubling: number): SweepGroup[] {
  const slots = policy.gpuBatchSize * policy.numGpuBatches;
  const { numSequences } = workload;
  // Blocks that are not full take as long as full ones.
  const last = numSequences % slots;
  const [fewer, more] = [3 * slots + last, 5 * slots + last];
  const tally = (sequences: number) => tallySweeps(policy, workload, sequences, perDoubling);
  if (numSequences <= more) return groupsOf(tally(numSequences));
  const [before, after] = [tally(fewer), tally(more)];
  // What the sequences between the two added, each of the others adds too.
  const repeats = (numSequences - more) / (more - fewer);
  for (const [key, sum] of after) {
    const earlier = before.get(key);
    for (const field of Object.keys(sum) as (keyof SweepGroup)[]) {
      sum[field] += repeats * Math.max(0, sum[field] - (earlier?.[field] ?? 0));
    }
  }
  return groupsOf(after);
}

type Tally = Map<string, { -readonly [Field in keyof SweepGroup]: number }>;

/** Sequences of one GPU batch that entered together. */
interface Cohort {
  readonly sequences: number;
  generated: number;
}

function tallySweeps(policy: SweepPolicy, workload: Workload, sequences: number, perDoubling: number): Tally {
  const promptTokens = Math.max(1, Math.round(workload.promptTokens));
  const newTokens = Math.max(1, Math.round(workload.newTokens));
  const sample = sampleSequence(promptTokens, newTokens);
  const batches = Array.from({ length: policy.numGpuBatches }, () => {
    return { cohorts: [] as Cohort[], door: openDoor({ ...FIXED, ...policy }, [sample]) };
  });
  const tally: Tally = new Map();
  for (let queued = sequences; ; ) {
    const anyLive = batches.some(({ cohorts }) => cohorts.length > 0);
    if (!anyLive && queued === 0) return tally;
    const sweep = { count: 1, promptRows: 0, decodeRows: 0, newcomers: 0, cachedBlocks: 0 };
    for (const { cohorts, door } of batches) {
      const live = cohorts.reduce((sum, cohort) => sum + cohort.sequences, 0);
      const admission = door.open(anyLive);
      let [entered, rows] = [0, live];
      while (entered < Math.min(queued, policy.gpuBatchSize - live) && admission.admits(promptTokens, rows)) {
        entered++;
        rows += promptTokens;
      }
      queued -= entered;
      sweep.decodeRows += live;
      sweep.newcomers += entered;
      for (const cohort of cohorts) {
        sweep.cachedBlocks += cohort.sequences * blocksFor(promptTokens + cohort.generated);
        cohort.generated++;
      }
      if (entered > 0) cohorts.push({ sequences: entered, generated: 1 });
      while (cohorts[0] && cohorts[0].generated >= newTokens) cohorts.shift();
    }
    sweep.promptRows = sweep.newcomers * promptTokens;
    if (sweep.promptRows + sweep.decodeRows === 0) throw new Error(`the door let none of ${queued} sequences in`);
    add(tally, sweep, perDoubling);
  }
}

function add(tally: Tally, sweep: SweepGroup, perDoubling: number): void {
  const step = (rows: number) => (rows === 0 ? '-' : Math.round(Math.log2(rows) * perDoubling));
  const key = `${step(sweep.promptRows)} ${step(sweep.decodeRows)}`;
  const sum = tally.get(key);
  if (!sum) {
    tally.set(key, { ...sweep });
    return;
  }
  for (const field of Object.keys(sum) as (keyof SweepGroup)[]) sum[field] += sweep[field];
}

function groupsOf(tally: Tally): SweepGroup[] {
  return [...tally.values()].map(({ count, promptRows, decodeRows, newcomers, cachedBlocks }) => ({
    count,
    promptRows: promptRows / count,
    decodeRows: decodeRows / count,
    newcomers: newcomers / count,
    cachedBlocks: cachedBlocks / count,
  }));
}

/** Stands for all of the queue, whose means the door looks at. */
function sampleSequence(promptTokens: number, maxNewTokens: number): GenerateSequence {
  const prompt = Array.from({ length: promptTokens }, () => 0);
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  const request = { kind: 'generate', id: '', prompt, maxNewTokens, stop: [], sampling } as const;
  return new GenerateSequence(request, prompt, { eosTokenIds: [], maxPositions: Number.POSITIVE_INFINITY }, undefined);
}

/** Of a policy, what does not decide who enters. */
const NOWHERE = { gpu: 0, cpu: 0, disk: 0 };
const FIXED = {
  overlap: true,
  weights: NOWHERE,
  kv: NOWHERE,
  activations: NOWHERE,
  partBytes: 1,
  buffers: 2,
  prefixBytes: 0,
} as const;
