/**
 * The loop: sweep after sweep over all layers, until no sequence is left.
 *
 * In each sweep, each layer's weights serve all GPU batches (FlexGen §4.2); in each GPU batch live sequences decode while
 * newcomers prefill, so the queue enters as places fall free.
 */
import type { Backend, Projection } from '../backends/backend.js';
import { EngineError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import type { EngineProgress } from '../requests.js';
import type { Sequence } from '../sequence.js';
import type { LayerCompute } from './compute.js';
import { GpuBatch } from './gpu-batch.js';
import { type HeadCell, runHeads } from './heads.js';

export interface LoopOptions {
  readonly gpuBatchSize: number;
  readonly numGpuBatches: number;
  /** Most rows that one GPU batch computes in a sweep: bounds the activations. */
  readonly maxRows: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EngineProgress) => void) | undefined;
}

/** One GPU batch's part in a sweep. */
interface Cell extends HeadCell {
  readonly batch: GpuBatch;
}

/**
 * Computes all sequences; they hold their results.
 *
 * @throws EngineError CANCELLED, between two layers, once the signal is aborted
 */
export async function runLoop(
  backend: Backend,
  compute: LayerCompute,
  config: ModelConfig,
  sequences: readonly Sequence[],
  options: LoopOptions,
): Promise<void> {
  const queue = sequences.filter((sequence) => sequence.kind === 'score' || !sequence.finished);
  const counts = { finished: sequences.length - queue.length, promptTokens: 0, generatedTokens: 0 };
  const batches = Array.from({ length: options.numGpuBatches }, () => new GpuBatch(config, options.gpuBatchSize));
  for (;;) {
    const cells = layOut(batches, queue, options.maxRows);
    if (cells.length === 0) return;
    await sweep(backend, compute, config, cells, options.signal);
    for (const { batch, rows } of cells) {
      counts.promptTokens += rows.tokens.length - rows.live;
      counts.generatedTokens +=
        rows.live + rows.newcomers.filter(({ sequence }) => sequence.kind === 'generate').length;
      counts.finished += batch.settle(rows).length;
    }
    const live = batches.reduce((sum, batch) => sum + batch.liveSequences.length, 0);
    options.onProgress?.({ ...counts, total: sequences.length, live });
  }
}

/** The cells of the next sweep; none when all is done. */
function layOut(batches: readonly GpuBatch[], queue: Sequence[], maxRows: number): Cell[] {
  const cells: Cell[] = [];
  let firstRow = 0;
  for (const batch of batches) {
    const rows = batch.layOut(queue, maxRows);
    if (rows.tokens.length === 0) continue;
    cells.push({ batch, rows, live: batch.liveSequences, firstRow });
    firstRow += rows.tokens.length;
  }
  return cells;
}

async function sweep(
  backend: Backend,
  compute: LayerCompute,
  config: ModelConfig,
  cells: readonly Cell[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const tokens = concatenate(cells.map(({ rows }) => rows.tokens));
  const positions = concatenate(cells.map(({ rows }) => rows.positions));
  let hidden = await compute.embed(tokens, positions);
  for (let layer = 0; layer < config.numLayers; layer++) {
    if (signal?.aborted) throw new EngineError('CANCELLED', 'the run was cancelled');
    const projection = await compute.project(layer, hidden, positions);
    const attended = new Float32Array(tokens.length * config.numHeads * config.headDim);
    for (const { batch, rows, firstRow } of cells) {
      await batch.attend(backend, layer, rows, rowsOf(config, projection, firstRow, rows.tokens.length), {
        into: attended,
        firstRow,
      });
    }
    hidden = await compute.finish(layer, hidden, attended);
  }
  await runHeads(compute, config, cells, hidden);
}

function rowsOf(config: ModelConfig, { queryKey, value }: Projection, firstRow: number, count: number): Projection {
  const [width, valueWidth] = [queryKeySize(config), valueSize(config)];
  return {
    queryKey: queryKey.subarray(firstRow * width, (firstRow + count) * width),
    value: value.subarray(firstRow * valueWidth, (firstRow + count) * valueWidth),
  };
}

function concatenate(parts: readonly Int32Array[]): Int32Array {
  const whole = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
