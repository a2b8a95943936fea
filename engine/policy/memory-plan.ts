/**
 * A policy from budgets: how many bytes each use of the memory gets, before anything is allocated.
 *
 * Weights that stay save reading time; sequences that are live give every sweep the work to hide its reads behind. KV gets
 * up to KV_SHARE of the budget, buffers and activations what they need, and the weights the rest.
 */
import { EngineError } from '../errors.js';
import { BLOCK_BYTES } from '../memory/aligned-buffer.js';
import { embeddingBufferBytes } from '../memory/embeddings.js';
import { blocksFor, kvSlotBytes, placeSlots } from '../memory/kv-layout.js';
import { stagedBlockBytes } from '../memory/kv-staging.js';
import { groupedRows, type PackedType, packedRowBytes } from '../memory/packed.js';
import type { Fractions } from '../memory/placement.js';
import { GROUP_SIZE } from '../memory/quantize.js';
import type { ModelConfig } from '../model/config.js';
import {
  denseFfnSize,
  isRouting,
  layerKind,
  layerTensors,
  mayStream,
  numSteps,
  queryKeySize,
  valueSize,
} from '../model/layers.js';
import { perModel } from './per-model.js';
import { allOn, DEFAULT_BUFFERS, mostPartBytes, type Policy, type PolicySizes } from './policy.js';

const KV_SHARE = 0.4;
/** Of the cpu's memory beside a gpu, for weights: whole blocks and groups of rows take the rest. */
const SPILL_SHARE = 0.9;
/** A part's reads begin and end at blocks, for its values, scales and minima. */
const ALIGNMENT_BYTES = 3 * 2 * BLOCK_BYTES;
/** Rows of a sweep at most: several prompts beside those that decode, so that there is work to hide its reads behind. */
const MAX_ROWS = 512;
/** Of the budget, for the rows of a sweep. */
const ACTIVATION_SHARE = 0.15;

export interface MemoryRequest extends PolicySizes {
  readonly config: ModelConfig;
  readonly weightType: PackedType;
  readonly computeTier: 'gpu' | 'cpu';
  /** Of the tier that computes, for weights, KV cache, buffers and activations together. */
  readonly budgetBytes: number;
  /** Of the cpu beside a gpu that computes. */
  readonly spillBytes: number;
  /** Where the KV cache lives. */
  readonly kv: Fractions;
  /** Longest sequence, prompt and completion together. */
  readonly contextTokens: number;
}

/** What each use of the memory gets. */
export interface MemoryPlan {
  readonly policy: Policy;
  readonly bytes: Readonly<Record<'kv' | 'activations' | 'workspace' | 'buffers' | 'fixed' | 'weights', number>>;
}

/** @throws EngineError OUT_OF_MEMORY if the budget holds less than one sequence and the buffers to stream through. */
export function planMemory(request: MemoryRequest): MemoryPlan {
  const { config, budgetBytes, contextTokens, weightType } = request;
  const total = streamedBytes(config, weightType);
  const smallest = GROUP_SIZE * widestRowBytes(config, weightType);
  const partBytes = Math.max(smallest, Math.min(mostPartBytes(weightType), Math.floor(budgetBytes / 64)));
  let gpuBatchSize = request.gpuBatchSize;
  while (gpuBatchSize > 1 && !fitsKv(request, gpuBatchSize)) gpuBatchSize--;
  const spillKv = spilledKvBytes(request, gpuBatchSize);
  if (spillKv > request.spillBytes) throw spillTooSmall(request, spillKv);
  const affordable = (budgetBytes * ACTIVATION_SHARE) / (request.numGpuBatches * activationRowBytes(config));
  const maxRows = Math.min(MAX_ROWS, Math.max(contextTokens, 2 * gpuBatchSize, Math.floor(affordable)));
  const bytes = {
    kv: kvBytes(request, gpuBatchSize),
    activations: sweepRows(maxRows, gpuBatchSize, contextTokens) * request.numGpuBatches * activationRowBytes(config),
    workspace: workspaceBytes(config, weightType, partBytes),
    fixed: fixedBytes(config, weightType) + embeddingBufferBytes(config, weightType) + smallest,
  };
  const free = budgetBytes - bytes.kv - bytes.activations - bytes.workspace - bytes.fixed;
  const resident = free >= total;
  const buffers = resident ? 0 : streamBufferBytes(config, partBytes);
  if (free < buffers) throw tooSmall(request, budgetBytes - free + buffers);
  const weights = resident ? total : free - buffers;
  const share = weights / total;
  return {
    policy: {
      gpuBatchSize,
      numGpuBatches: request.numGpuBatches,
      schedule: request.schedule,
      overlap: request.overlap,
      maxRows,
      paced: !resident && request.schedule === 'continuous',
      weights: spread(request, { share, total, spillBytes: request.spillBytes - spillKv }),
      kv: request.kv,
      activations: allOn(request.computeTier),
      partBytes,
      buffers: DEFAULT_BUFFERS,
      prefixBytes: 0,
    },
    bytes: { ...bytes, buffers, weights },
  };
}

/** Buffers for parts on their way. */
export function streamBufferBytes({ experts }: ModelConfig, partBytes: number): number {
  // Experts have a ring of their own, which is read while the other's parts wait.
  const rings = experts ? 2 : 1;
  return rings * DEFAULT_BUFFERS * (partBytes + ALIGNMENT_BYTES);
}

/** Bytes of the matrices that stream: all but the embeddings, which are read by the row. */
export function streamedBytes(config: ModelConfig, type: PackedType): number {
  let bytes = 0;
  for (const { shape } of decoderAndHead(config).filter(mayStream))
    bytes += shape[0]! * packedRowBytes(type, shape[1]!);
  return bytes;
}

/** Parts of the matrices that stream where all of them do. */
export function streamedParts(config: ModelConfig, type: PackedType, partBytes: number): number {
  const matrices = decoderAndHead(config).filter(mayStream);
  return matrices.reduce((sum, { shape }) => {
    return sum + Math.ceil(shape[0]! / groupedRows(partBytes, packedRowBytes(type, shape[1]!)));
  }, 0);
}

function widestRowBytes(config: ModelConfig, type: PackedType): number {
  const widths = decoderAndHead(config).map(({ shape }) => shape[1] ?? 0);
  return packedRowBytes(type, Math.max(...widths));
}

/** KV cache on the tier that computes: what lives there, and copies of one layer of what does not. */
function kvBytes({ config, kv, computeTier, contextTokens, numGpuBatches }: MemoryRequest, gpuBatchSize: number) {
  const { resident, slots } = placeSlots(kv, gpuBatchSize, computeTier);
  const staged = slots > resident ? blocksFor(contextTokens) * stagedBlockBytes(config, slots - resident) : 0;
  return numGpuBatches * resident * kvSlotBytes(config, contextTokens) + staged;
}

/** KV cache on the cpu beside a gpu that computes. */
function spilledKvBytes(
  { config, kv, computeTier, contextTokens, numGpuBatches }: MemoryRequest,
  gpuBatchSize: number,
) {
  const { resident, host } = placeSlots(kv, gpuBatchSize, computeTier);
  return numGpuBatches * (host - resident) * kvSlotBytes(config, contextTokens);
}

function fitsKv(request: MemoryRequest, gpuBatchSize: number): boolean {
  return (
    kvBytes(request, gpuBatchSize) <= request.budgetBytes * KV_SHARE &&
    spilledKvBytes(request, gpuBatchSize) <= request.spillBytes
  );
}

/** The share of the weights on the tier that computes; of the rest, what the cpu beside it has room for, and the disk. */
function spread(
  { computeTier }: MemoryRequest,
  { share, total, spillBytes }: { readonly share: number; readonly total: number; readonly spillBytes: number },
): Fractions {
  if (computeTier === 'cpu') return { gpu: 0, cpu: share, disk: 1 - share };
  const cpu = Math.min(1 - share, (SPILL_SHARE * spillBytes) / total);
  return { gpu: share, cpu, disk: 1 - share - cpu };
}

/** Vectors are float32; they, tables and projections always stay. Every tensor that is kept ends within a block. */
function fixedBytes(config: ModelConfig, type: PackedType): number {
  let bytes = 0;
  const stays = [...decoderAndHead(config), ...layerTensors(config, 0).filter(({ name }) => name !== 'tokens')];
  for (const tensor of stays) {
    const { shape, name } = tensor;
    if (shape.length === 1) bytes += 4 * shape[0]! + BLOCK_BYTES;
    else bytes += ALIGNMENT_BYTES;
    if (shape.length === 1 || mayStream(tensor)) continue;
    bytes += shape[0]! * packedRowBytes(isRouting(name) ? 'float32' : type, shape[1]!);
  }
  return bytes;
}

const decoderAndHead = perModel((config) => {
  const layers = Array.from({ length: numSteps(config) }, (_, layer) => layer);
  return layers.filter((layer) => layerKind(config, layer) !== 'embed').flatMap((layer) => layerTensors(config, layer));
});

/** Most rows of one GPU batch in a sweep: a prompt that is longer than `maxRows` still enters, beside live sequences. */
function sweepRows(maxRows: number, gpuBatchSize: number, contextTokens: number): number {
  return Math.max(maxRows, gpuBatchSize + contextTokens);
}

/** All arrays of one row that live at the same time in a layer, float32. */
export function activationRowBytes(config: ModelConfig): number {
  const qkv = queryKeySize(config) + valueSize(config);
  const attended = config.numHeads * config.headDim;
  const routed = config.experts ? 3 * config.hiddenSize + config.experts.count : 0;
  const ffnSize = Math.max(denseFfnSize(config), config.ffnSize);
  return 4 * (4 * config.hiddenSize + 2 * qkv + attended + 2 * ffnSize + routed);
}

/** Parts widened to float32 for a product (gate and up at once), and a head's logits. */
function workspaceBytes(config: ModelConfig, type: PackedType, partBytes: number): number {
  const values = partBytes / packedRowBytes(type, 1);
  const headRows = partBytes / packedRowBytes(type, config.embeddingSize);
  return (type === 'float32' ? 0 : 2 * 4 * values) + 64 * 4 * headRows;
}

function tooSmall(request: MemoryRequest, needBytes: number): EngineError {
  const { budgetBytes, contextTokens, gpuBatchSize, computeTier: tier } = request;
  const need = Math.ceil(needBytes);
  const option = { gpu: '--device-memory', cpu: '--host-memory' }[tier];
  return new EngineError(
    'OUT_OF_MEMORY',
    `${tier} tier: one sequence of ${contextTokens} tokens, its activations and the buffers that weights stream through ` +
      `need ${need} B, and the budget is ${budgetBytes} B; raise ${option}, or shorten the sequences`,
    { tier, needBytes: need, capacityBytes: budgetBytes, contextTokens, gpuBatchSize },
  );
}

function spillTooSmall({ spillBytes, contextTokens }: MemoryRequest, needBytes: number): EngineError {
  return new EngineError(
    'OUT_OF_MEMORY',
    `cpu tier: the KV cache of one sequence of ${contextTokens} tokens needs ${needBytes} B, and the budget is ` +
      `${spillBytes} B; raise --host-memory, or give the cpu a smaller share of the KV cache`,
    { tier: 'cpu', needBytes, capacityBytes: spillBytes, contextTokens },
  );
}
