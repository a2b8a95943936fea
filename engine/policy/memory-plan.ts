/**
 * A policy from budgets: how many bytes each use of the memory gets, before anything is allocated.
 *
 * Weights that stay save reading time; sequences that are live give every sweep the work to hide its reads behind. KV gets
 * up to KV_SHARE of the budget, buffers and activations what they need, and the weights the rest.
 */
import { EngineError } from '../errors.js';
import { BLOCK_BYTES } from '../memory/aligned-buffer.js';
import { kvSlotBytes } from '../memory/kv-cache.js';
import { type PackedType, packedRowBytes } from '../memory/packed.js';
import { GROUP_SIZE } from '../memory/quantize.js';
import type { ModelConfig } from '../model/config.js';
import { layerKind, layerTensors, numSteps, queryKeySize, valueSize } from '../model/layers.js';
import { DEFAULT_BUFFERS, MAX_PART_BYTES, type Policy, type ScheduleName } from './policy.js';

const KV_SHARE = 0.4;
/** A part's reads begin and end at blocks, for its values, scales and minima. */
const ALIGNMENT_BYTES = 3 * 2 * BLOCK_BYTES;
/** Rows of a sweep: a prompt's worth and more, so that the products run at full speed. */
const MAX_ROWS = 512;

export interface MemoryRequest {
  readonly config: ModelConfig;
  readonly weightType: PackedType;
  /** For weights, KV cache, buffers and activations together. */
  readonly budgetBytes: number;
  /** Longest sequence, prompt and completion together. */
  readonly contextTokens: number;
  readonly gpuBatchSize: number;
  readonly numGpuBatches: number;
  readonly schedule: ScheduleName;
  readonly overlap: boolean;
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
  const partBytes = Math.max(smallest, Math.min(MAX_PART_BYTES, Math.floor(budgetBytes / 64)));
  const slotBytes = kvSlotBytes(config, contextTokens);
  const kvSlots = Math.floor((budgetBytes * KV_SHARE) / slotBytes / request.numGpuBatches);
  const gpuBatchSize = Math.max(1, Math.min(request.gpuBatchSize, kvSlots));
  const maxRows = Math.min(MAX_ROWS, Math.max(contextTokens, 2 * gpuBatchSize));
  const bytes = {
    kv: gpuBatchSize * request.numGpuBatches * slotBytes,
    activations: maxRows * request.numGpuBatches * activationRowBytes(config),
    workspace: workspaceBytes(config, weightType, partBytes),
    fixed: fixedBytes(config),
  };
  const free = budgetBytes - bytes.kv - bytes.activations - bytes.workspace - bytes.fixed;
  const resident = free >= total;
  const buffers = resident ? 0 : DEFAULT_BUFFERS * (partBytes + ALIGNMENT_BYTES);
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
      weights: { gpu: 0, cpu: share, disk: 1 - share },
      partBytes,
      buffers: DEFAULT_BUFFERS,
    },
    bytes: { ...bytes, buffers, weights },
  };
}

/** Bytes of the matrices that every sweep reads: all but the embeddings, which are read by the row. */
export function streamedBytes(config: ModelConfig, type: PackedType): number {
  let bytes = 0;
  for (const { shape } of decoderAndHead(config)) {
    if (shape.length === 2) bytes += shape[0]! * packedRowBytes(type, shape[1]!);
  }
  return bytes;
}

function widestRowBytes(config: ModelConfig, type: PackedType): number {
  const widths = decoderAndHead(config).map(({ shape }) => shape[1] ?? 0);
  return packedRowBytes(type, Math.max(...widths));
}

/** Vectors are float32 and always resident. */
function fixedBytes(config: ModelConfig): number {
  let bytes = 0;
  for (const { shape } of decoderAndHead(config)) if (shape.length === 1) bytes += 4 * shape[0]!;
  return bytes;
}

function decoderAndHead(config: ModelConfig) {
  const layers = Array.from({ length: numSteps(config) }, (_, layer) => layer);
  return layers.filter((layer) => layerKind(config, layer) !== 'embed').flatMap((layer) => layerTensors(config, layer));
}

/** All arrays of one row that live at the same time in a layer, float32. */
export function activationRowBytes(config: ModelConfig): number {
  const qkv = queryKeySize(config) + valueSize(config);
  const attended = config.numHeads * config.headDim;
  return 4 * (4 * config.hiddenSize + 2 * qkv + attended + 2 * config.ffnSize);
}

/** Parts widened to float32 for a product (gate and up at once), and a head's logits. */
function workspaceBytes(config: ModelConfig, type: PackedType, partBytes: number): number {
  const values = partBytes / packedRowBytes(type, 1);
  const headRows = partBytes / packedRowBytes(type, config.embeddingSize);
  return (type === 'float32' ? 0 : 2 * 4 * values) + 64 * 4 * headRows;
}

function tooSmall({ budgetBytes, contextTokens, gpuBatchSize }: MemoryRequest, needBytes: number): EngineError {
  const need = Math.ceil(needBytes);
  return new EngineError(
    'OUT_OF_MEMORY',
    `cpu tier: one sequence of ${contextTokens} tokens, its activations and the buffers that weights stream through ` +
      `need ${need} B, and the budget is ${budgetBytes} B; raise --host-memory, or shorten the sequences`,
    { tier: 'cpu', needBytes: need, capacityBytes: budgetBytes, contextTokens, gpuBatchSize },
  );
}
