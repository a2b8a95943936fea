/**
 * From options to a model that is ready to compute: all in memory, or from an offload store within a budget.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Backend } from './backends/backend.js';
import { EngineError } from './errors.js';
import { openOffloaded } from './memory/offloaded.js';
import { loadResident } from './memory/resident.js';
import { openTiers, type Tiers } from './memory/tier.js';
import type { ModelConfig } from './model/config.js';
import { openModel } from './model/open.js';
import { packedTypes, type StoreFormat, storeFiles } from './model/store.js';
import { importModel } from './model/store-import.js';
import { openStore } from './model/store-read.js';
import type { Tokenizer } from './model/tokenizer.js';
import { planMemory } from './policy/memory-plan.js';
import { type Policy, residentPolicy, type WeightBits } from './policy/policy.js';
import type { EngineOptions } from './requests.js';
import { type LayerCompute, residentCompute } from './schedule/compute.js';
import { streamedCompute } from './schedule/streamed.js';
import type { Trace } from './trace.js';

/** Sequences computed together: enough rows for the products' full speed in decoding. */
const DEFAULT_GPU_BATCH_SIZE = 64;
const DEFAULT_WEIGHT_BITS = 16;

export interface LoadedModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | undefined;
  readonly identity: string;
  readonly policy: Policy;
  readonly tiers: Tiers;
  readonly compute: LayerCompute;
  /** Longest sequence that the policy made room for. */
  readonly contextTokens: number;
  close(): Promise<void>;
}

export async function loadModel(
  options: EngineOptions,
  openBackend: (config: ModelConfig) => Promise<Backend>,
  trace: Trace,
): Promise<LoadedModel & { readonly backend: Backend }> {
  const wanted = {
    gpuBatchSize: options.gpuBatchSize ?? DEFAULT_GPU_BATCH_SIZE,
    numGpuBatches: options.numGpuBatches ?? 1,
    schedule: options.schedule ?? 'continuous',
  };
  const offloads = options.hostMemoryBytes !== undefined || options.policy?.weights !== undefined;
  const directory = offloads ? await storeOf(options) : undefined;
  const cache = options.cacheDir === undefined ? {} : { cacheDir: options.cacheDir };
  const { weights, tokenizer } = await openModel(directory ?? options.model, cache);
  const { config, identity } = weights;
  if (directory === undefined) {
    const layers = await loadResident(config, weights);
    await weights.close();
    const backend = await openBackend(config);
    const policy = { ...residentPolicy(wanted.gpuBatchSize, wanted.numGpuBatches, wanted.schedule), ...options.policy };
    const unbounded = Number.POSITIVE_INFINITY;
    return {
      config,
      tokenizer,
      identity,
      policy,
      tiers: openTiers({ gpu: 0, cpu: unbounded, disk: unbounded }),
      compute: residentCompute(backend, config, layers),
      contextTokens: config.maxPositions,
      backend,
      close: () => backend.close(),
    };
  }
  await weights.close();
  const store = await openStore(directory, cache);
  try {
    const budgetBytes = options.hostMemoryBytes ?? Number.POSITIVE_INFINITY;
    const contextTokens = Math.min(config.maxPositions, options.contextTokens ?? config.maxPositions);
    const overlap = options.overlap ?? true;
    const weightType = packedTypes[store.format];
    const planned = options.policy?.weights
      ? { ...residentPolicy(wanted.gpuBatchSize, wanted.numGpuBatches, wanted.schedule), overlap }
      : planMemory({ config, weightType, budgetBytes, contextTokens, overlap, ...wanted }).policy;
    const policy = { ...planned, ...options.policy };
    const tiers = openTiers({ gpu: 0, cpu: budgetBytes, disk: Number.POSITIVE_INFINITY });
    const model = await openOffloaded(store, tiers, {
      ...policy,
      fractions: policy.weights,
      computeTier: 'cpu',
      onRead: (bytes) => trace.moved('weights', bytes),
      onWait: (seconds) => trace.waited('weights', seconds),
    });
    const backend = await openBackend(config);
    return {
      config,
      tokenizer,
      identity,
      policy: { ...policy, weights: model.placement.fractions },
      tiers,
      compute: streamedCompute(backend, config, model.resident, model.stream),
      contextTokens,
      backend,
      async close() {
        await model.close();
        await store.close();
        await backend.close();
      },
    };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** The model's offload store: itself, or one made of it, once. */
async function storeOf({ model, offloadDir, cacheDir, weightBits }: EngineOptions): Promise<string> {
  if (existsSync(join(model, storeFiles.header))) return model;
  const format = formatOf(weightBits ?? DEFAULT_WEIGHT_BITS);
  const home = offloadDir ?? join(cacheDir ?? join(homedir(), '.cache', 'zigzag'), 'offload');
  const key = createHash('sha256').update(model).digest('hex').slice(0, 16);
  const directory = join(home, `${key}-${format}`);
  if (existsSync(join(directory, storeFiles.header))) {
    const store = await openStore(directory, cacheDir === undefined ? {} : { cacheDir }).catch(() => undefined);
    await store?.close();
    if (store) return directory;
  }
  await importModel(model, directory, { format, ...(cacheDir !== undefined && { cacheDir }) });
  return directory;
}

function formatOf(bits: WeightBits): StoreFormat {
  const formats: Readonly<Record<WeightBits, StoreFormat>> = { 32: 'fp32', 16: 'fp16', 8: 'int8', 4: 'int4' };
  const format = formats[bits];
  if (format) return format;
  throw new EngineError('BAD_INPUT', `weights of ${bits} bits cannot be stored; choose 32, 16, 8 or 4`, { bits });
}
