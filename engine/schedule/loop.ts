/**
 * The loop: sweep after sweep over all layers, until no sequence is left.
 *
 * In each sweep, each layer's weights serve all GPU batches (FlexGen §4.2); in each GPU batch live sequences decode while
 * newcomers prefill, so the queue enters as places fall free.
 */
import type { Backend, LayerWeights } from '../backends/backend.js';
import { EngineError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import type { EngineProgress } from '../requests.js';
import type { Sequence } from '../sequence.js';
import { GpuBatch, type SweepRows } from './gpu-batch.js';
import { runHeads } from './heads.js';

export interface LoopOptions {
  readonly gpuBatchSize: number;
  readonly numGpuBatches: number;
  /** Most rows that one GPU batch computes in a sweep: bounds the activations. */
  readonly maxRows: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EngineProgress) => void) | undefined;
}

/** One GPU batch's part in a sweep. */
interface Cell {
  readonly batch: GpuBatch;
  readonly rows: SweepRows;
  hidden: Float32Array;
}

/**
 * Computes all sequences; they hold their results.
 *
 * @param layers embedding first, head last
 * @throws EngineError CANCELLED, between two layers, once the signal is aborted
 */
export async function runLoop(
  backend: Backend,
  config: ModelConfig,
  layers: readonly LayerWeights[],
  sequences: readonly Sequence[],
  options: LoopOptions,
): Promise<void> {
  const queue = sequences.filter((sequence) => sequence.kind === 'score' || !sequence.finished);
  const counts = { finished: sequences.length - queue.length, promptTokens: 0, generatedTokens: 0 };
  const batches = Array.from({ length: options.numGpuBatches }, () => new GpuBatch(config, options.gpuBatchSize));
  for (;;) {
    const cells = batches
      .map((batch) => ({ batch, rows: batch.layOut(queue, options.maxRows), hidden: new Float32Array(0) }))
      .filter(({ rows }) => rows.tokens.length > 0);
    if (cells.length === 0) return;
    await sweep(backend, config, layers, cells, options.signal);
    for (const { batch, rows } of cells) {
      const prompts = rows.newcomers.reduce((sum, { start, end }) => sum + end - start, 0);
      counts.promptTokens += prompts;
      counts.generatedTokens +=
        rows.live + rows.newcomers.filter(({ sequence }) => sequence.kind === 'generate').length;
      counts.finished += batch.settle(rows).length;
    }
    const live = batches.reduce((sum, batch) => sum + batch.liveSequences.length, 0);
    options.onProgress?.({ ...counts, total: sequences.length, live });
  }
}

async function sweep(
  backend: Backend,
  config: ModelConfig,
  layers: readonly LayerWeights[],
  cells: readonly Cell[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const cell of cells) cell.hidden = await backend.embed(layers[0]!, cell.rows.tokens, cell.rows.positions);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const weights = layers[layer + 1]!;
    for (const cell of cells) {
      if (signal?.aborted) throw new EngineError('CANCELLED', 'the run was cancelled');
      const projection = await backend.project(weights, cell.hidden, cell.rows.positions);
      const attended = await cell.batch.attend(backend, layer, cell.rows, projection);
      cell.hidden = await backend.finish(weights, cell.hidden, attended);
    }
  }
  for (const { batch, rows, hidden } of cells) {
    await runHeads(backend, config, layers[config.numLayers + 1]!, rows, batch.liveSequences, hidden);
  }
}
