/**
 * From options to a model that is ready to compute: all in memory, or from an offload store within a budget.
 */
import type { Backend, LayerWeights } from './backends/backend.js';
import { EngineError } from './errors.js';
import type { RunMemory } from './memory/kv-tiers.js';
import { openOffloaded } from './memory/offloaded.js';
import { gatherRows } from './memory/packed.js';
import { residentBytes, residentLoader } from './memory/resident.js';
import { openTiers } from './memory/tier.js';
import { noStream } from './memory/weight-stream.js';
import type { ModelConfig } from './model/config.js';
import { numSteps } from './model/layers.js';
import { openModel } from './model/open.js';
import { packedTypes } from './model/store.js';
import { openStore } from './model/store-read.js';
import type { Tokenizer } from './model/tokenizer.js';
import { kvReadingOf } from './numerics.js';
import { offloadDirectory, offloadStoreOf } from './offload-store.js';
import { planPolicy } from './policy/planned.js';
import { allOn, checkPolicy, mostPartBytes, type Policy, residentPolicy } from './policy/policy.js';
import type { EngineOptions } from './requests.js';
import { type LayerCompute, residentCompute } from './schedule/compute.js';
import { streamedCompute } from './schedule/streamed.js';
import type { Trace } from './trace.js';

/** Sequences computed together: enough rows for the products' full speed in decoding. */
const DEFAULT_GPU_BATCH_SIZE = 64;

export interface LoadedModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | undefined;
  readonly identity: string;
  readonly policy: Policy;
  readonly memory: RunMemory;
  readonly compute: LayerCompute;
  /** Longest sequence that the policy made room for. */
  readonly contextTokens: number;
  /** Rows of a context with its options that it made room for. */
  readonly passRows: number;
  readonly backend: Backend;
  close(): Promise<void>;
}

type OpenBackendFor = (config: ModelConfig) => Promise<Backend>;

/** @throws EngineError, before anything is computed, if the model can't be used as the options say. */
export async function loadModel(
  options: EngineOptions,
  openBackend: OpenBackendFor,
  trace: Trace,
): Promise<LoadedModel> {
  const { device, hostMemoryBytes, weightBits, policy } = options;
  // Weights of so many bits are those of a store, even where all of it fits in memory.
  const offloads =
    device === 'sim' || hostMemoryBytes !== undefined || weightBits !== undefined || policy?.weights !== undefined;
  if (offloads && options.computeBits === 8)
    throw noByteProducts('an offload store (a budget, weight bits, random weights)');
  return offloads ? loadOffloaded(options, openBackend, trace) : loadInMemory(options, openBackend);
}

async function loadInMemory(options: EngineOptions, openBackend: OpenBackendFor): Promise<LoadedModel> {
  const memory = memoryOf(options);
  const policy = { ...residentPolicy(wantedOf(options)), ...options.policy };
  checkPolicy(policy, memory.computeTier);
  const { weights, tokenizer } = await openModel(options.model, cacheOf(options));
  try {
    const { identity } = weights;
    const config = opened(weights.config, options);
    if (config.experts && options.computeBits === 8) throw noByteProducts('experts');
    const lease = memory.tiers.cpu.reserve(residentBytes(config), 'the weights');
    const backend = await openBackend(config);
    const load = residentLoader(config, weights);
    const compute = await (config.experts ? residentExperts : residentCompute)(backend, config, load);
    return {
      config,
      tokenizer,
      identity,
      policy,
      memory,
      compute,
      contextTokens: config.maxPositions,
      passRows: Number.POSITIVE_INFINITY,
      backend,
      async close() {
        lease.release();
        await backend.close();
      },
    };
  } finally {
    await weights.close();
  }
}

async function loadOffloaded(options: EngineOptions, openBackend: OpenBackendFor, trace: Trace): Promise<LoadedModel> {
  const memory = memoryOf(options);
  const { tiers, computeTier } = memory;
  const directory = await offloadStoreOf(options.model, options);
  const { weights, tokenizer } = await openModel(directory, cacheOf(options));
  await weights.close();
  const store = await openStore(directory, cacheOf(options));
  try {
    const { identity } = store;
    const config = opened(store.config, options);
    const contextTokens = Math.min(config.maxPositions, options.contextTokens ?? config.maxPositions);
    const wanted = wantedOf(options);
    const bounded = Number.isFinite(tiers[computeTier].capacityBytes);
    const fitsAll = computeTier === 'cpu' && !bounded;
    const planned =
      options.policy?.weights || fitsAll
        ? residentPolicy(wanted, computeTier)
        : await planPolicy({
            ...wanted,
            given: options,
            planning: options.planning,
            capacityBytes: {
              gpu: tiers.gpu.capacityBytes,
              cpu: tiers.cpu.capacityBytes,
              disk: tiers.disk.capacityBytes,
            },
            config,
            weightType: packedTypes[store.format],
            budgetBytes: tiers[computeTier].capacityBytes,
            spillBytes: computeTier === 'gpu' ? tiers.cpu.capacityBytes : 0,
            contextTokens,
            computeTier,
            kv: options.policy?.kv ?? allOn(computeTier),
          });
    // Whoever places the weights within a budget says what else is to have room.
    const room = bounded && options.policy?.weights ? { prefixBytes: 0 } : {};
    const policy = { ...planned, ...room, ...options.policy };
    checkPolicy(policy, computeTier);
    const model = await openOffloaded(store, tiers, {
      ...policy,
      fractions: policy.weights,
      computeTier,
      onRead: (bytes) => trace.moved('weights', bytes),
      onWait: (seconds) => trace.waited('weights', seconds),
    });
    const backend = await openBackend(config);
    return {
      config,
      tokenizer,
      identity,
      policy: { ...policy, weights: model.placement.fractions },
      memory,
      compute: streamedCompute(backend, config, model.resident, model),
      contextTokens,
      passRows: bounded ? Math.max(policy.maxRows - policy.gpuBatchSize, contextTokens) : Number.POSITIVE_INFINITY,
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

/** Rows go to the experts that they choose, which the layers in pieces know how to do; nothing streams. */
async function residentExperts(
  backend: Backend,
  config: ModelConfig,
  load: (step: number) => Promise<LayerWeights>,
): Promise<LayerCompute> {
  const layers: LayerWeights[] = [];
  for (let step = 0; step < numSteps(config); step++) layers.push(await load(step));
  const embeddings = async (ids: Int32Array) => gatherRows(layers[0]!.tokens!, ids);
  const partBytes = mostPartBytes('float32');
  return streamedCompute(
    backend,
    config,
    { layers, embeddings, partBytes },
    { stream: noStream(), openExperts: noStream },
  );
}

/** A model with what its options say of the KV cache. @throws BAD_INPUT where they make no sense */
function opened(config: ModelConfig, options: EngineOptions): ModelConfig {
  const kv = kvReadingOf(options);
  const { sparseAttention: share = 1 } = options;
  if (!(share > 0 && share <= 1)) {
    throw new EngineError('BAD_INPUT', `sparseAttention: needed a share above 0, at most 1, found ${share}`, { share });
  }
  return kv ? { ...config, kv } : config;
}

function noByteProducts(what: string): EngineError {
  const message = `8-bit products: not for ${what}, whose weights come in pieces; compute with 32 bits`;
  return new EngineError('UNSUPPORTED', message, { computeBits: 8 });
}

function wantedOf(options: EngineOptions) {
  return {
    gpuBatchSize: options.gpuBatchSize ?? DEFAULT_GPU_BATCH_SIZE,
    numGpuBatches: options.numGpuBatches ?? 1,
    schedule: options.schedule ?? 'continuous',
    overlap: options.overlap ?? true,
  } as const;
}

function memoryOf(options: EngineOptions): RunMemory {
  const { device, deviceMemoryBytes, hostMemoryBytes, diskMemoryBytes } = options;
  const unbounded = Number.POSITIVE_INFINITY;
  return {
    tiers: openTiers({
      gpu: device === 'sim' ? (deviceMemoryBytes ?? unbounded) : 0,
      cpu: hostMemoryBytes ?? unbounded,
      disk: diskMemoryBytes ?? unbounded,
    }),
    computeTier: device === 'sim' ? 'gpu' : 'cpu',
    directory: offloadDirectory(options),
  };
}

function cacheOf({ cacheDir }: EngineOptions) {
  return cacheDir === undefined ? {} : { cacheDir };
}
