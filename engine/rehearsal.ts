/**
 * Rehearsals: short runs of the whole engine on small models, beside what its parts, measured alone, let expect of them.
 *
 * Kernels whose weights were just read are slower than those that are measured again and again, and a disk is slower while
 * all cores compute and small writes go on. How much slower is kept as factors of time.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openEngine } from './engine.js';
import type { PackedType } from './memory/packed.js';
import type { ModelConfig } from './model/config.js';
import { dummyWeights } from './model/dummy.js';
import { namedShape } from './model/named-shapes.js';
import { seededRandom } from './model/random.js';
import { writeStore } from './model/store-write.js';
import { storeFormat } from './offload-store.js';
import type { HardwareProfile, Rehearsal } from './policy/hardware.js';
import { type PlanCase, type Prediction, predictPolicy, weightBitsOf } from './policy/plan.js';
import { allOn, type Policy } from './policy/policy.js';
import { measuredSteps, type StepSeconds } from './policy/steps.js';
import type { GenerateRequest } from './requests.js';
import { totalsBetween } from './trace.js';

/** What is run, and how long it is. */
export interface Play {
  readonly config: ModelConfig;
  readonly sequences: number;
  readonly promptTokens: number;
  readonly newTokens: number;
}

/** A narrow model with a KV cache as large as its weights, and a wide one: some layers of each. By rising width. */
export function plays(sequences: number): readonly Play[] {
  const vocabSize = 8192;
  const narrow = { ...namedShape('opt-125m'), numLayers: 4, vocabSize };
  const wide = { ...namedShape('llama-1.1b'), numLayers: 2, vocabSize };
  return [
    { config: narrow, sequences, promptTokens: 128, newTokens: 10 },
    { config: wide, sequences: Math.ceil(sequences / 2), promptTokens: 64, newTokens: 10 },
  ];
}

/** As policies within a budget are: prompts enter a few at a time. */
const PACED: Partial<Policy> = { paced: true, maxRows: 512 };
const IN_MEMORY: Partial<Policy> = { ...PACED, weights: allOn('cpu'), kv: allOn('cpu') };
const ON_DISK: Partial<Policy> = { ...PACED, weights: allOn('disk'), kv: allOn('disk') };

/** How weights stream: all forms but float32, which does without. */
const FORMS = ['float16', 'int8', 'int4'] as const;

export interface RehearsalOptions {
  readonly threads: number;
  /** Where the models lie meanwhile. */
  readonly directory: string;
}

/** @param profile as its parts were measured alone */
export async function rehearse(profile: HardwareProfile, play: Play, options: RehearsalOptions): Promise<Rehearsal> {
  const { hiddenSize: width } = play.config;
  const runs = {} as Record<(typeof FORMS)[number], Performance>;
  for (const form of FORMS) runs[form] = await perform(play, form, ON_DISK, options);
  const inMemory = await perform(play, 'float16', IN_MEMORY, options);
  const streamed = Object.fromEntries(FORMS.map((form) => [form, productsFactor(profile, play, runs[form])]));
  const attention = clamped(runs.float16.steps.attention / predictPlay(profile, play, runs.float16).steps.attention);
  const found: Rehearsal = {
    ...{ width, streamed, attention, disk: 1 },
    resident: productsFactor(profile, play, inMemory),
  };
  const disks = FORMS.map((form) => diskFactor(profile, found, play, runs[form]));
  return { ...found, disk: disks.reduce((sum, disk) => sum + disk) / disks.length };
}

interface Performance {
  readonly form: PackedType;
  readonly policy: Policy;
  readonly steps: StepSeconds;
}

async function perform(
  play: Play,
  form: (typeof FORMS)[number],
  policy: Partial<Policy>,
  { threads, directory }: RehearsalOptions,
): Promise<Performance> {
  const { config, sequences, promptTokens, newTokens } = play;
  const scratch = await mkdtemp(join(directory, 'rehearsal-'));
  try {
    const model = join(scratch, 'model');
    await writeStore(dummyWeights(config, 0), model, { format: storeFormat(weightBitsOf(form)) });
    const engine = await openEngine({
      ...{ model, backend: 'onnx', threads, policy, sharing: false },
      ...{ offloadDir: scratch, cacheDir: scratch },
      gpuBatchSize: Math.ceil(sequences / 2),
      contextTokens: promptTokens + newTokens,
    });
    try {
      const requests = requestsOf(play);
      // The first sweeps make the kernels.
      await engine.run(requests.slice(0, 1));
      const [before, start] = [await engine.usage(), performance.now()];
      await engine.run(requests);
      const seconds = (performance.now() - start) / 1000;
      const steps = measuredSteps(totalsBetween(before, await engine.usage()), seconds);
      return { form, policy: engine.info.policy, steps };
    } finally {
      await engine.close();
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function requestsOf({ config, sequences, promptTokens, newTokens }: Play): GenerateRequest[] {
  const random = seededRandom(0);
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  return Array.from({ length: sequences }, (_, i) => {
    const prompt = Array.from({ length: promptTokens }, () => Math.floor(random.next() * config.vocabSize));
    return { kind: 'generate', id: `${i}`, prompt, maxNewTokens: newTokens, stop: [], sampling, ignoreEos: true };
  });
}

function predictPlay(profile: HardwareProfile, play: Play, { form, policy }: Performance): Prediction {
  const { config, sequences, promptTokens, newTokens } = play;
  const unbounded = Number.POSITIVE_INFINITY;
  const study: PlanCase = {
    config,
    profile,
    workload: { numSequences: sequences, promptTokens, newTokens, contextTokens: promptTokens + newTokens },
    overlap: true,
    capacityBytes: { gpu: 0, cpu: unbounded, disk: unbounded },
  };
  return predictPolicy(study, policy, form);
}

/** Factors of computing beyond which a measurement is taken for a mistake. */
const LEAST_FACTOR = 0.5;
const MOST_FACTOR = 2;

function clamped(factor: number): number {
  return Math.min(MOST_FACTOR, Math.max(LEAST_FACTOR, factor));
}

/** What is predicted is linear in the factor, beside what reading takes from computing. What lies between steps is in it too. */
function productsFactor(profile: HardwareProfile, play: Play, performed: Performance): number {
  const { all, attention, waiting } = performed.steps;
  const predicted = (computeFactor: number) => {
    const refined = { computeFactor, ioFactor: 1, runs: 0, date: '' };
    return predictPlay({ ...profile, refined }, play, performed).steps.products;
  };
  const [once, twice] = [predicted(1), predicted(2)];
  return clamped(1 + (all - attention - waiting - once) / (twice - once));
}

/** Nor is a disk slower than this. */
const MOST_DISK = 4;
const HALVINGS = 20;

/** By how much longer the disk must take for the prediction to be what was measured; 1 where computing takes as long. */
function diskFactor(profile: HardwareProfile, found: Rehearsal, play: Play, performed: Performance): number {
  let [low, high] = [1, MOST_DISK];
  for (let step = 0; step < HALVINGS; step++) {
    const disk = (low + high) / 2;
    const predicted = predictPlay({ ...profile, rehearsed: [{ ...found, disk }] }, play, performed);
    if (predicted.totalSeconds < performed.steps.all) low = disk;
    else high = disk;
  }
  return low;
}
