/** `zigzag bench`: what the engine reaches on this machine, FlexGen's figures beside the bound. */
import { writeFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { readPolicy } from '../../activities/policy-file.js';
import { InputError } from '../../datasets/errors.js';
import type { ComputeBits } from '../../engine/backends/backend.js';
import { kvReadingOf } from '../../engine/numerics.js';
import { DEFAULT_WEIGHT_BITS } from '../../engine/offload-store.js';
import type { Prediction } from '../../engine/policy/plan.js';
import type { KvBits, Policy, ScheduleName, WeightBits } from '../../engine/policy/policy.js';
import type { Engine, EngineOptions, EngineUsage, GenerateRequest, GenerateResult } from '../../engine/requests.js';
import { totalsBetween } from '../../engine/trace.js';
import { type BenchFigures, type BenchRun, figuresOf } from '../bench-figures.js';
import { watchMemory } from '../bench-memory.js';
import { type BenchModel, prepareBenchModel } from '../bench-model.js';
import { benchPlanning, predictBench } from '../bench-plan.js';
import { openBenchProgress } from '../bench-progress.js';
import { formatFigures } from '../bench-report.js';
import type { LengthRange } from '../bench-work.js';
import { DEFAULT_PROMPT_LEN, DEFAULT_SEQUENCES, lengthRange, longestOf, makeRequests } from '../bench-work.js';
import { cacheDirectory, DEFAULT_MODEL } from '../bootstrap.js';
import { byteSize } from '../bytes.js';
import { openEngine } from '../engine.js';
import { keepComparison } from '../hardware.js';
import { interruptible } from '../interrupt.js';
import { computeBits, numberBetween, weightBits, wholeNumber } from '../options.js';
import { note, print, printJson } from '../print.js';
import { formatBytes } from '../terminal.js';

interface BenchFlags {
  readonly model?: string;
  readonly dummyWeights?: boolean;
  readonly prompts?: string;
  readonly promptLen?: number;
  readonly sharedPrefix?: number;
  readonly genLen?: number;
  readonly mixedLengths?: LengthRange;
  readonly numSequences?: number;
  readonly device: 'cpu';
  readonly threads?: number;
  readonly hostMemory?: number;
  readonly diskMemory?: number;
  readonly offloadDir?: string;
  readonly weightBits?: WeightBits;
  readonly computeBits?: ComputeBits;
  readonly kvBits?: KvBits;
  readonly sparseAttention?: number;
  readonly gpuBatchSize?: number;
  readonly numGpuBatches?: number;
  readonly schedule?: ScheduleName;
  readonly overlap: boolean;
  readonly sharing: boolean;
  readonly policy: string;
  readonly trace?: string;
  readonly repeat: number;
  readonly json?: boolean;
}

const DEFAULT_SHAPE = 'llama-1.1b';
const DEFAULT_GEN_LEN = 32;

export function addBench(program: Command): void {
  program
    .command('bench')
    .description("measure the engine: FlexGen's figures beside the bound of this machine")
    .option('--model <model>', `model as for generate, or a named shape with --dummy-weights`)
    .option('--dummy-weights', 'random weights of the shape that --model names, written once')
    .option('--prompts <file>', 'prompts, one a line, or JSON lines with a string or token ids as "prompt"')
    .option('--prompt-len <n>', `tokens of each random prompt (default: ${DEFAULT_PROMPT_LEN})`, wholeNumber(1))
    .option('--shared-prefix <n>', 'first tokens that all random prompts have in common', wholeNumber(0))
    .option('--gen-len <n>', `tokens of each completion (default: ${DEFAULT_GEN_LEN})`, wholeNumber(1))
    .option('--mixed-lengths <least:most>', 'completions of different lengths instead, such as 1:128', lengthRange)
    .option('--num-sequences <n>', `sequences (default: all of --prompts, or ${DEFAULT_SEQUENCES})`, wholeNumber(1))
    .addOption(new Option('--device <name>', 'what computes').choices(['cpu']).default('cpu'))
    .option('--threads <n>', 'threads of the matrix products (default: the cores)', wholeNumber(1))
    .option('--host-memory <size>', 'memory for weights, KV cache and buffers; without it all is in memory', byteSize)
    .option('--disk-memory <size>', 'disk space for the offload store and what of a run lives there', byteSize)
    .option('--offload-dir <dir>', 'where they lie (default: in the cache)')
    .option('--weight-bits <bits>', 'of weights in the offload store: 4, 8, 16 or 32 (default: 16)', weightBits)
    .option('--compute-bits <bits>', 'of the products: 32, or 8 where the processor has VNNI', computeBits)
    .option('--kv-bits <bits>', 'of keys and values in the cache: 4, 8, 16 or 32 (default: 32)', weightBits)
    .option('--sparse-attention <share>', 'of the positions that a new token sees, those it reads', numberBetween(0, 1))
    .option('--gpu-batch-size <n>', 'sequences computed together, at most', wholeNumber(1))
    .option('--num-gpu-batches <n>', 'GPU batches that share one read of the weights', wholeNumber(1))
    .addOption(new Option('--schedule <name>', 'who shares a sweep').choices(['continuous', 'block']))
    .option('--no-overlap', 'read and compute in turn')
    .option('--no-sharing', 'compute common beginnings, and equal prompts, once for each')
    .option('--policy <file>', 'auto, or a JSON file with values of a policy', 'auto')
    .option('--trace <file>', 'write the time of every step, for chrome://tracing or Perfetto')
    .option('--repeat <n>', 'run so many times and report the median', wholeNumber(1), 1)
    .option('--json', 'end stdout with one JSON object')
    .action(bench);
}

async function bench(flags: BenchFlags): Promise<void> {
  refuseContradictions(flags);
  // Known before the work, not after it.
  if (flags.trace !== undefined) writeTrace(flags.trace, '');
  const policy = flags.policy === 'auto' ? {} : readPolicy(flags.policy);
  const dummyWeights = flags.dummyWeights ?? false;
  await interruptible(
    async (signal) => {
      const model = await prepareBenchModel({
        model: flags.model ?? (dummyWeights ? DEFAULT_SHAPE : DEFAULT_MODEL.name),
        dummyWeights,
        offloads: flags.hostMemory !== undefined || flags.weightBits !== undefined || policy.weights !== undefined,
        weightBits: flags.weightBits,
        offloadDir: flags.offloadDir,
        signal,
      });
      const requests = await makeRequests(model, { ...flags, genLen: flags.genLen ?? DEFAULT_GEN_LEN });
      const planning = benchPlanning(requests);
      const options = engineOptions(model, requests, policy, flags);
      const searched = flags.policy === 'auto' && planning ? { planning } : {};
      const figures = await measure(model, requests, { ...options, ...searched }, flags, signal);
      const weightBits = storeBits(flags);
      const stored = weightBits && { weightBits, hostMemory: flags.hostMemory };
      const kv = kvReadingOf(flags);
      const opened = kv ? { ...model, config: { ...model.config, kv } } : model;
      const predicted = planning && stored ? predictBench(planning, opened, requests, figures.policy, stored) : null;
      if (planning && stored) {
        // Factors are of the profile as it was measured.
        const { refined: _, ...profile } = planning.profile;
        const bare = predictBench({ ...planning, profile }, opened, requests, figures.policy, stored);
        if (flags.sharedPrefix === undefined) keepComparison({ predicted: bare.steps, measured: figures.steps });
      }
      report(model, figures, predicted, flags);
    },
    () => note('stopping'),
    'Interrupted.',
  );
}

/** Of the weights of a store; undefined where the model is in memory as it is. */
function storeBits({ hostMemory, weightBits, dummyWeights }: BenchFlags): WeightBits | undefined {
  return weightBits ?? (hostMemory !== undefined || dummyWeights ? DEFAULT_WEIGHT_BITS : undefined);
}

function refuseContradictions(flags: BenchFlags): void {
  const { prompts, promptLen, sharedPrefix, genLen, mixedLengths, trace, repeat } = flags;
  if (prompts !== undefined && sharedPrefix !== undefined) {
    throw new InputError('--prompts and --shared-prefix exclude each other; give one');
  }
  if (prompts !== undefined && promptLen !== undefined) {
    throw new InputError('--prompts and --prompt-len exclude each other; give one');
  }
  if (genLen !== undefined && mixedLengths !== undefined) {
    throw new InputError('--gen-len and --mixed-lengths exclude each other; give one');
  }
  if (trace !== undefined && repeat > 1) throw new InputError('--trace is of one run; leave --repeat out');
}

function engineOptions(
  model: BenchModel,
  requests: readonly GenerateRequest[],
  policy: Partial<Policy>,
  flags: BenchFlags,
): EngineOptions {
  const { kvBits, sparseAttention } = flags;
  const { threads, computeBits, gpuBatchSize, numGpuBatches, schedule, hostMemory, diskMemory, offloadDir } = flags;
  // Random weights are those of a store; without a budget it is in memory as it is.
  const bits = flags.weightBits ?? (flags.dummyWeights ? DEFAULT_WEIGHT_BITS : undefined);
  return {
    model: model.path,
    backend: 'onnx',
    device: flags.device,
    overlap: flags.overlap,
    sharing: flags.sharing,
    policy,
    contextTokens: longestOf(requests),
    cacheDir: cacheDirectory(),
    timeline: flags.trace !== undefined,
    ...(threads !== undefined && { threads }),
    ...(computeBits !== undefined && { computeBits }),
    ...(kvBits !== undefined && { kvBits }),
    ...(sparseAttention !== undefined && { sparseAttention }),
    ...(gpuBatchSize !== undefined && { gpuBatchSize }),
    ...(numGpuBatches !== undefined && { numGpuBatches }),
    ...(schedule !== undefined && { schedule }),
    ...(hostMemory !== undefined && { hostMemoryBytes: hostMemory }),
    ...(diskMemory !== undefined && { diskMemoryBytes: diskMemory }),
    ...(offloadDir !== undefined && { offloadDir }),
    ...(bits !== undefined && { weightBits: bits }),
  };
}

/** The rates are measured last: by then the rows of a sweep are known, and the memory of the run has been watched. */
async function measure(
  model: BenchModel,
  requests: readonly GenerateRequest[],
  options: EngineOptions,
  { repeat, trace, hostMemory, threads }: BenchFlags,
  signal: AbortSignal,
): Promise<BenchFigures> {
  const memory = watchMemory();
  const engine = await openEngine(options);
  const runs: BenchRun[] = [];
  let usage: EngineUsage;
  try {
    for (let run = 1; run <= repeat; run++) runs.push(await runOnce(engine, requests, { run, repeat, signal }));
    usage = await engine.usage();
  } finally {
    await engine.close();
  }
  const peakResidentBytes = memory.stop();
  if (trace !== undefined) writeTrace(trace, usage.timeline!);
  const { rows, sweeps } = runs[0]!.totals;
  const { config, file } = model;
  const { policy } = engine.info;
  // Loads the kernels' library, which no other command should wait for.
  const { measureRates } = await import('../../engine/rates.js');
  const rates = await measureRates({ config, file, threads, rows: Math.round(rows / sweeps) });
  const { peakBytes } = usage;
  return figuresOf({ config, policy, runs, peakBytes, peakResidentBytes, hostMemoryBytes: hostMemory, rates });
}

/** @throws InputError if the file cannot be written */
function writeTrace(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new InputError(`--trace: ${path} cannot be written (${(error as Error).message}); choose another file`);
  }
}

async function runOnce(
  engine: Engine,
  requests: readonly GenerateRequest[],
  { run, repeat, signal }: { readonly run: number; readonly repeat: number; readonly signal: AbortSignal },
): Promise<BenchRun> {
  const before = await engine.usage();
  const progress = openBenchProgress();
  const start = performance.now();
  const onProgress = (latest: Parameters<typeof progress.update>[0]) => progress.update(latest, run, repeat);
  const answers = await engine.run(requests, { signal, onProgress }).finally(progress.stop);
  const seconds = (performance.now() - start) / 1000;
  const results = answers.filter((answer): answer is GenerateResult => answer.kind === 'generate');
  const failed = results.find(({ error }) => error !== undefined);
  if (failed) throw new InputError(`sequence ${failed.id}: ${failed.error}`);
  return { seconds, results, totals: totalsBetween(before, await engine.usage()) };
}

function report(model: BenchModel, figures: BenchFigures, predicted: Prediction | null, flags: BenchFlags): void {
  const heading = [
    `${flags.model ?? (flags.dummyWeights ? DEFAULT_SHAPE : DEFAULT_MODEL.name)} (${model.form})`,
    `${figures.rows} sequences`,
    `${figures.promptTokens} prompt tokens, ${figures.generatedTokens} generated`,
    `GPU batch ${figures.policy.gpuBatchSize} x ${figures.policy.numGpuBatches}, ${figures.policy.schedule}`,
    flags.hostMemory === undefined ? 'all in memory' : `host memory ${formatBytes(flags.hostMemory)}`,
  ].join(', ');
  const text = `${heading}\n\n${formatFigures(figures, predicted)}`;
  if (flags.json) {
    note(text);
    printJson({ ...figures, predicted });
  } else print(text);
}
