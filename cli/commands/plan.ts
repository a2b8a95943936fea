/** `zigzag plan`: what a run would take, in hours and bytes, and where everything would live, before it starts. */
import { type Command, Option } from 'commander';
import { InputError } from '../../datasets/errors.js';
import type { HardwareProfile } from '../../engine/policy/hardware.js';
import { weightTypeOf } from '../../engine/policy/plan.js';
import type { KvBits, ScheduleName, WeightBits } from '../../engine/policy/policy.js';
import type { SearchRequest } from '../../engine/policy/search.js';
import { byteSize } from '../bytes.js';
import { findHardware } from '../hardware.js';
import { weightBits, wholeNumber } from '../options.js';
import { formatPlan, planJson } from '../plan-report.js';
import { givenWork, type PlanWork, pipelineWork } from '../plan-work.js';
import { note, print, printJson } from '../print.js';
import { addPipelineOptions, type PipelineFlags } from './run.js';

interface PlanFlags extends PipelineFlags {
  readonly model?: string;
  readonly promptLen?: number;
  readonly genLen?: number;
  readonly numSequences?: number;
  readonly hardware?: string;
  readonly deviceMemory?: number;
  readonly hostMemory?: number;
  readonly diskMemory?: number;
  readonly weightBits?: WeightBits;
  readonly kvBits?: KvBits;
  readonly gpuBatchSize?: number;
  readonly numGpuBatches?: number;
  readonly schedule?: ScheduleName;
  readonly overlap: boolean;
  readonly json?: boolean;
}

/** Enough that filling and emptying the batch is little of the whole. */
const DEFAULT_SEQUENCES = 1024;

export function addPlan(program: Command): void {
  const plan = program
    .command('plan')
    .description('say what a run would take, in hours and bytes, and where everything would live')
    .argument('[pipeline]', 'YAML file; or name a model and lengths');
  addPipelineOptions(plan)
    .option('--model <model>', 'model as for generate, or a named shape, instead of a pipeline')
    .option('--prompt-len <n>', 'tokens of each prompt, with --model', wholeNumber(1))
    .option('--gen-len <n>', 'tokens of each completion, with --model', wholeNumber(1))
    .option('--num-sequences <n>', `sequences, with --model (default: ${DEFAULT_SEQUENCES})`, wholeNumber(1))
    .option('--hardware <machine>', 'a machine by name, or the file of its profile (default: this one)')
    .option('--device-memory <size>', "of the gpu (default: the machine's)", byteSize)
    .option('--host-memory <size>', "for weights, KV cache and buffers (default: the machine's)", byteSize)
    .option(
      '--disk-memory <size>',
      "for the offload store and what of a run lives there (default: the machine's)",
      byteSize,
    )
    .option('--weight-bits <bits>', 'of weights: 4, 8, 16 or 32 (default: 16)', weightBits)
    .option('--kv-bits <bits>', 'of the KV cache: 4, 8, 16 or 32 (default: 16 on a gpu, 32 on a cpu)', weightBits)
    .option('--gpu-batch-size <n>', 'sequences computed together, and no other number', wholeNumber(1))
    .option(
      '--num-gpu-batches <n>',
      'GPU batches that share one read of the weights, and no other number',
      wholeNumber(1),
    )
    .addOption(new Option('--schedule <name>', 'who shares a sweep').choices(['continuous', 'block']))
    .option('--no-overlap', 'read and compute in turn')
    .option('--json', 'end stdout with one JSON object')
    .action(planRun);
}

async function planRun(path: string | undefined, flags: PlanFlags): Promise<void> {
  const profile = findHardware(flags.hardware);
  const work = await workOf(path, flags);
  const request = requestOf(work, profile, flags);
  // Loads the solver, which no other command should wait for.
  const [{ openSolver }, { searchPolicy }] = await Promise.all([
    import('../../engine/policy/highs.js'),
    import('../../engine/policy/search.js'),
  ]);
  const found = searchPolicy(request, await openSolver());
  const report = { work, profile, capacityBytes: request.capacityBytes, found };
  if (flags.json) {
    note(formatPlan(report));
    printJson(planJson(report));
  } else print(formatPlan(report));
}

async function workOf(path: string | undefined, flags: PlanFlags): Promise<PlanWork> {
  const { model, promptLen, genLen, numSequences } = flags;
  if (path !== undefined) {
    if (model !== undefined) throw new InputError('a pipeline and --model exclude each other; give one');
    const { loadPipeline } = await import('../../datasets/spec.js');
    const limit = flags.limit === undefined ? {} : { limit: flags.limit };
    return pipelineWork(loadPipeline(path, { overrides: flags.set ?? [], ...limit }));
  }
  if (model === undefined || promptLen === undefined || genLen === undefined) {
    throw new InputError('give a pipeline, or --model, --prompt-len and --gen-len together');
  }
  return givenWork({ model, promptLen, genLen, numSequences: numSequences ?? DEFAULT_SEQUENCES });
}

function requestOf({ config, workload, engine }: PlanWork, profile: HardwareProfile, flags: PlanFlags): SearchRequest {
  const { gpuBatchSize = engine.gpuBatchSize, numGpuBatches = engine.numGpuBatches } = flags;
  const onGpu = profile.computeTier === 'gpu';
  const weights = weightTypeOf(flags.weightBits ?? engine.weightBits ?? 16);
  const schedule = flags.schedule ?? engine.schedule;
  const kv = flags.kvBits ?? engine.kvBits ?? (onGpu ? 16 : 32);
  return {
    config,
    profile,
    workload: { ...workload, contextTokens: engine.contextTokens ?? workload.contextTokens },
    overlap: flags.overlap && (engine.overlap ?? true),
    capacityBytes: {
      gpu: onGpu ? (flags.deviceMemory ?? profile.capacityBytes.gpu) : 0,
      cpu: flags.hostMemory ?? engine.hostMemoryBytes ?? profile.capacityBytes.cpu,
      disk: flags.diskMemory ?? engine.diskMemoryBytes ?? profile.capacityBytes.disk,
    },
    weightTypes: [weights],
    kvBits: [kv],
    schedules: schedule === undefined ? ['continuous', 'block'] : [schedule],
    // Fewer bits change answers, so they are shown and not chosen.
    otherWeightTypes: flags.weightBits === undefined ? ['int8', 'int4'] : [],
    // On a cpu the engine computes with 32 bits alone.
    otherKvBits: flags.kvBits === undefined && engine.kvBits === undefined ? [8, 4] : [],
    ...(gpuBatchSize !== undefined && { gpuBatchSize }),
    ...(numGpuBatches !== undefined && { numGpuBatches }),
  };
}
