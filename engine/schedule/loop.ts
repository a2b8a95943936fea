/**
 * The loop: sweep after sweep over all layers, until no sequence is left.
 *
 * In each sweep, each layer's weights serve all GPU batches (FlexGen §4.2); in each GPU batch live sequences decode while
 * newcomers prefill, so the queue enters as places fall free.
 */
import type { Backend, Projection } from '../backends/backend.js';
import { EngineError } from '../errors.js';
import { type ActivationStore, openActivations } from '../memory/activations.js';
import { openKvCaches, type RunMemory } from '../memory/kv-tiers.js';
import { Scratch } from '../memory/scratch.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import { activationRowBytes } from '../policy/memory-plan.js';
import type { Policy } from '../policy/policy.js';
import type { EngineProgress } from '../requests.js';
import type { GenerateSequence, Sequence } from '../sequence.js';
import type { Trace } from '../trace.js';
import type { LayerCompute } from './compute.js';
import { type Door, openDoor } from './door.js';
import { GpuBatch, type Seat } from './gpu-batch.js';
import { type HeadCell, runHeads } from './heads.js';
import { PrefixStore } from './prefix-store.js';
import { readAhead } from './read-ahead.js';

/** Keeps what was computed, beside the computation. */
export interface LoopCheckpoint {
  /** Whether keys and values of this sequence may be there. */
  holds(sequence: Sequence): boolean;
  /** Puts those of its first positions into its seat. @returns how many there were; then it holds them no longer */
  load(seat: Seat): Promise<number>;
  afterSweep(seats: readonly Seat[], counts: Pick<EngineProgress, 'promptTokens' | 'generatedTokens'>): Promise<void>;
  /** The run ends before its time. */
  giveUp(seats: readonly Seat[]): Promise<void>;
}

/** After a sweep, of this call. */
export type LoopProgress = Pick<EngineProgress, 'promptTokens' | 'generatedTokens' | 'live'>;

export interface LoopOptions {
  readonly policy: Policy;
  readonly memory: RunMemory;
  readonly trace: Trace;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoopProgress) => void) | undefined;
  readonly checkpoint?: LoopCheckpoint | undefined;
  /** Whether rows of common beginnings are computed once. */
  readonly sharing: boolean;
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
  const counts = { promptTokens: 0, generatedTokens: 0 };
  const { policy, memory, trace, checkpoint } = options;
  const kv = openKvCaches(config, policy, memory, trace);
  const activations = openActivations(config, policy, memory, trace);
  const { tiers, computeTier } = memory;
  const prefixes = options.sharing ? new PrefixStore(config, queue, tiers[computeTier], policy.prefixBytes) : undefined;
  const batches = kv.caches.map((cache) => new GpuBatch(config, policy.gpuBatchSize, cache, prefixes));
  const scratch = new Scratch();
  const doors = batches.map(() => openDoor(policy, queue));
  try {
    for (;;) {
      const start = performance.now();
      if (checkpoint) await welcomeBack(batches, queue, checkpoint);
      const cells = layOut(batches, doors, queue);
      if (cells.length === 0 && queue.length > 0) throw new Error(`the door let none of ${queue.length} sequences in`);
      if (cells.length === 0) return;
      for (const { batch, rows } of cells) await batch.grow(rows);
      await sweep({ backend, compute, config, activations, scratch }, cells, options);
      await trace.wait('kvWrite', () => kv.drain());
      for (const { batch, rows } of cells) {
        counts.promptTokens += rows.promptRows;
        counts.generatedTokens +=
          rows.live + rows.newcomers.filter(({ sequence }) => sequence.kind === 'generate').length;
        await batch.settle(rows);
      }
      const live = batches.reduce((sum, batch) => sum + batch.liveSequences.length, 0);
      trace.sweep(...countRows(cells), (performance.now() - start) / 1000);
      await checkpoint?.afterSweep(seatsOf(batches), counts);
      options.onProgress?.({ ...counts, live });
    }
  } catch (error) {
    await compute.rewind();
    await kv.settle();
    await checkpoint?.giveUp(seatsOf(batches));
    throw error;
  } finally {
    prefixes?.close();
    await activations.close();
    await kv.close();
  }
}

/** Seats the sequences whose keys and values were kept, as far as there are slots. */
async function welcomeBack(batches: readonly GpuBatch[], queue: Sequence[], checkpoint: LoopCheckpoint): Promise<void> {
  const holding = queue.filter((sequence) => checkpoint.holds(sequence)) as GenerateSequence[];
  for (const batch of batches) {
    while (batch.freeSlots > 0 && holding.length > 0) {
      const sequence = holding.shift()!;
      const isSeated = await batch.welcome(sequence, (seat) => checkpoint.load(seat));
      if (isSeated) queue.splice(queue.indexOf(sequence), 1);
    }
  }
}

function seatsOf(batches: readonly GpuBatch[]): readonly Seat[] {
  return batches.flatMap(({ seats }) => seats);
}

/** The cells of the next sweep; none when all is done. */
function layOut(batches: readonly GpuBatch[], doors: readonly Door[], queue: Sequence[]): Cell[] {
  const cells: Cell[] = [];
  let firstRow = 0;
  const anyLive = batches.some(({ liveSequences }) => liveSequences.length > 0);
  for (const [i, batch] of batches.entries()) {
    const rows = batch.layOut(queue, doors[i]!.open(anyLive));
    if (rows.tokens.length === 0) continue;
    cells.push({ batch, rows, live: batch.liveSequences, firstRow });
    firstRow += rows.tokens.length;
  }
  return cells;
}

function countRows(cells: readonly Cell[]): [promptRows: number, decodeRows: number] {
  const decodeRows = cells.reduce((sum, { rows }) => sum + rows.live, 0);
  return [cells.reduce((sum, { rows }) => sum + rows.tokens.length, 0) - decodeRows, decodeRows];
}

const NO_ROWS = new Float32Array(0);

/** What a sweep computes with. */
interface SweepParts {
  readonly backend: Backend;
  readonly compute: LayerCompute;
  readonly config: ModelConfig;
  readonly activations: ActivationStore;
  readonly scratch: Scratch;
}

async function sweep(
  { backend, compute, config, activations, scratch }: SweepParts,
  cells: readonly Cell[],
  { policy, memory, trace, signal }: LoopOptions,
): Promise<void> {
  const tokens = concatenate(cells.map(({ rows }) => rows.tokens));
  const positions = concatenate(cells.map(({ rows }) => rows.positions));
  const bytes = tokens.length * activationRowBytes(config);
  const lease = memory.tiers[memory.computeTier].reserve(bytes, `activations of ${tokens.length} tokens`);
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer);
  const visits = layers.flatMap((layer) => cells.map(({ batch, rows }) => ({ layer, batch, rows })));
  const nextKv = readAhead(visits, ({ layer, batch, rows }) => batch.stage(layer, rows), policy.overlap);
  try {
    let hidden = await trace.step('embed', undefined, () => compute.embed(tokens, positions));
    for (const layer of layers) {
      if (signal?.aborted) throw new EngineError('CANCELLED', 'the run was cancelled');
      const projection = await trace.step('project', layer, () => compute.project(layer, hidden, positions));
      const parked = await activations.park(hidden);
      // What left is not kept here meanwhile.
      hidden = NO_ROWS;
      const attended = scratch.take('attended', tokens.length * config.numHeads * config.headDim);
      await trace.step('attend', layer, async () => {
        for (const { batch, rows, firstRow } of cells) {
          const own = rowsOf(config, projection, firstRow, rows.tokens.length);
          const cached = await trace.wait('kvRead', nextKv);
          await batch.attend(backend, cached, rows, own, { into: attended, firstRow, layer });
        }
      });
      const residual = await parked.restore();
      hidden = await trace.step('finish', layer, () => compute.finish(layer, residual, attended));
    }
    await trace.step('head', undefined, () => runHeads(compute, config, cells, hidden));
  } finally {
    lease.release();
  }
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
