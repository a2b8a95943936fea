/**
 * Rehearsals: short runs of the whole engine on small models, beside what its parts, measured alone, let expect of them.
 *
 * A layer is slower between attention and the vocabulary than by itself, each part that streams by takes a core for a while,
 * and a disk is slower while all cores compute and small writes go on. How much slower is kept with the profile.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { openEngine } from './engine.js';
import type { ModelConfig } from './model/config.js';
import { dummyWeights } from './model/dummy.js';
import { namedShape } from './model/named-shapes.js';
import { seededRandom } from './model/random.js';
import { writeStore } from './model/store-write.js';
import { storeFormat } from './offload-store.js';
import type { HardwareProfile, Rehearsal } from './policy/hardware.js';
import { streamedParts } from './policy/memory-plan.js';
import { type PlanCase, type Prediction, predictPolicy, weightBitsOf } from './policy/plan.js';
import { allOn, type Policy } from './policy/policy.js';
import { measuredSteps, type StepSeconds } from './policy/steps.js';
import type { Workload } from './policy/workload.js';
import type { GenerateRequest } from './requests.js';
import { totalsBetween } from './trace.js';

/** What is run, and how long it is. */
export interface Play {
  readonly config: ModelConfig;
  readonly sequences: number;
  readonly promptTokens: number;
}

/** A narrow model with a KV cache as large as its weights, and a wide one: some layers of each. By rising width. */
export function plays(sequences: number): readonly Play[] {
  const vocabSize = 8192;
  return [
    { config: { ...namedShape('opt-125m'), numLayers: 2, vocabSize }, sequences, promptTokens: 128 },
    { config: { ...namedShape('llama-1.1b'), numLayers: 1, vocabSize }, sequences, promptTokens: 128 },
  ];
}

interface Scene {
  readonly policy: Partial<Policy>;
  readonly newTokens: number;
}

const [CPU, DISK] = [allOn('cpu'), allOn('disk')];
/** Prompts enter a few at a time, as they do within a budget. */
const PACED = { paced: true, maxRows: 512 };
const IN_MEMORY: Scene = { policy: { ...PACED, weights: CPU, kv: CPU }, newTokens: 16 };
const STREAMED: Scene = { policy: { ...PACED, weights: DISK, kv: CPU }, newTokens: 16 };
/** Mostly decoding, which waits for the disk. */
const ON_DISK: Scene = { policy: { ...PACED, weights: DISK, kv: DISK }, newTokens: 24 };

/** How weights stream: in large parts and in small ones. */
const FORMS = ['float16', 'int4'] as const;
type Form = (typeof FORMS)[number];

export interface RehearsalOptions {
  readonly threads: number;
  /** Where the models lie meanwhile. */
  readonly directory: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * @param profile as its parts were measured alone
 * @throws CANCELLED, within a second or so of the signal; nothing is left in the directory
 */
export async function rehearse(profile: HardwareProfile, play: Play, options: RehearsalOptions): Promise<Rehearsal> {
  const compare = async (form: Form, scene: Scene): Promise<Comparison> => {
    const performed = await perform(play, form, scene, options);
    return { ...performed, expected: predicted(profile, performed) };
  };
  const streamed: Comparison[] = [];
  for (const form of FORMS) streamed.push(await compare(form, STREAMED));
  const resident = await compare('float16', IN_MEMORY);
  const onDisk = await compare('float16', ON_DISK);
  const products = clamped(resident.steps.products / resident.expected.steps.products);
  const attention = (of: (one: Comparison) => StepSeconds) =>
    [...streamed, resident, onDisk].reduce((sum, one) => sum + of(one).attention, 0);
  const found = {
    width: play.config.hiddenSize,
    products,
    partSeconds: partSecondsOf(streamed, products),
    attention: clamped(attention(({ steps }) => steps) / attention(({ expected }) => expected.steps)),
  };
  return { ...found, disk: diskFactor(profile, found, onDisk) };
}

interface Performance {
  readonly study: Pick<PlanCase, 'config' | 'workload'>;
  readonly form: Form;
  readonly policy: Policy;
  readonly steps: StepSeconds;
}

interface Comparison extends Performance {
  readonly expected: Prediction;
}

async function perform(
  { config, sequences, promptTokens }: Play,
  form: Form,
  { policy, newTokens }: Scene,
  { threads, directory, signal }: RehearsalOptions,
): Promise<Performance> {
  const contextTokens = promptTokens + newTokens;
  const workload = { numSequences: sequences, promptTokens, newTokens, contextTokens };
  const stopping = signal ? { signal } : {};
  const scratch = await mkdtemp(join(directory, 'rehearsal-'));
  try {
    const model = join(scratch, 'model');
    await writeStore(dummyWeights(config, 0), model, { format: storeFormat(weightBitsOf(form)), ...stopping });
    const engine = await openEngine({
      ...{ model, backend: 'onnx', threads, policy, sharing: false },
      ...{ offloadDir: scratch, cacheDir: scratch },
      gpuBatchSize: sequences,
      contextTokens,
    });
    try {
      const requests = requestsOf(config, workload);
      // The first sweeps make the kernels, and the compilers' best code.
      await engine.run(requests.slice(0, Math.ceil(sequences / 4)), stopping);
      const [before, start] = [await engine.usage(), performance.now()];
      await engine.run(requests, stopping);
      const seconds = (performance.now() - start) / 1000;
      const steps = measuredSteps(totalsBetween(before, await engine.usage()), seconds);
      return { study: { config, workload }, form, policy: engine.info.policy, steps };
    } finally {
      await engine.close();
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function requestsOf(
  { vocabSize }: ModelConfig,
  { numSequences, promptTokens, newTokens }: Workload,
): GenerateRequest[] {
  const random = seededRandom(0);
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  return Array.from({ length: numSequences }, (_, i) => {
    const prompt = Array.from({ length: promptTokens }, () => Math.floor(random.next() * vocabSize));
    return { kind: 'generate', id: `${i}`, prompt, maxNewTokens: newTokens, stop: [], sampling, ignoreEos: true };
  });
}

function predicted(profile: HardwareProfile, { study, form, policy }: Performance): Prediction {
  const unbounded = Number.POSITIVE_INFINITY;
  const capacityBytes = { gpu: 0, cpu: unbounded, disk: unbounded };
  return predictPolicy({ ...study, profile, overlap: true, capacityBytes }, policy, form);
}

/** Factors of computing beyond which a measurement is taken for a mistake. */
const LEAST_FACTOR = 0.5;
const MOST_FACTOR = 3;

function clamped(factor: number): number {
  return Math.min(MOST_FACTOR, Math.max(LEAST_FACTOR, factor));
}

/** What is beyond the products as they are in memory, of all forms, over the parts that streamed by. */
function partSecondsOf(streamed: readonly Comparison[], products: number): number {
  let [beyond, parts] = [0, 0];
  for (const { study, form, policy, steps, expected } of streamed) {
    beyond += steps.products - products * expected.steps.products;
    parts += expected.sweeps * streamedParts(study.config, form, policy.partBytes);
  }
  return Math.max(0, beyond / parts);
}

/** Nor is a disk slower than this, or faster beside computing than alone. */
const MOST_DISK = 4;
const HALVINGS = 20;

/** How much longer the disk must take for the prediction to be what was measured; 1 where computing takes as long. */
function diskFactor(profile: HardwareProfile, found: Omit<Rehearsal, 'disk'>, performed: Performance): number {
  let [low, high] = [1, MOST_DISK];
  for (let halving = 0; halving < HALVINGS; halving++) {
    const disk = (low + high) / 2;
    const { totalSeconds } = predicted({ ...profile, rehearsed: [{ ...found, disk }] }, performed);
    if (totalSeconds < performed.steps.all) low = disk;
    else high = disk;
  }
  return low;
}
