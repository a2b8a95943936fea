/**
 * One GPU batch: sequences that are computed together, and their KV cache.
 *
 * In every sweep it takes one row of each live sequence and all rows of its newcomers, packed without padding. Finished
 * sequences leave at once; the last slot's sequence moves into the gap, so live slots stay contiguous.
 */
import type { Backend, Projection } from '../backends/backend.js';
import type { KvCache, KvLayer } from '../memory/kv-cache.js';
import { lengthMask } from '../memory/kv-layout.js';
import { windowOf, windowsOf } from '../model/attention.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import type { GenerateSequence, Sequence } from '../sequence.js';
import type { Admission } from './door.js';
import { causalMask, treeMask } from './token-tree.js';

/** Query rows of one attention call of a prompt: bounds the mask, and spares the half above the diagonal. */
const ATTENTION_TILE = 256;

/** Rows [start, end) of the sweep belong to this newcomer. */
interface NewcomerRows {
  readonly sequence: Sequence;
  readonly start: number;
  readonly end: number;
}

/** What one GPU batch computes in one sweep. Rows 0..live-1 are the live sequences', one each, in slot order. */
export interface SweepRows {
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly live: number;
  readonly newcomers: readonly NewcomerRows[];
  /** By window: (live, cached positions), which cached positions each live row sees. */
  readonly masks: ReadonlyMap<number | undefined, Float32Array>;
  readonly longest: number;
}

const NO_MASK = new Float32Array(0);

export class GpuBatch {
  private readonly live: GenerateSequence[] = [];

  constructor(
    private readonly config: ModelConfig,
    readonly numSlots: number,
    private readonly cache: KvCache,
  ) {}

  get liveSequences(): readonly GenerateSequence[] {
    return this.live;
  }

  /** Takes newcomers from the queue's front while slots last and the door lets them in; lays out the next sweep. */
  layOut(queue: Sequence[], door: Admission): SweepRows {
    const live = this.live.length;
    const tokens = this.live.map(({ tokens, prompt }) => tokens.at(-1) ?? prompt.at(-1)!);
    const positions = this.live.map(({ length }) => length - 1);
    const newcomers: NewcomerRows[] = [];
    let freeSlots = this.numSlots - live;
    for (let next = queue[0]; next; next = queue[0]) {
      const rows = newcomerRows(next);
      const needsSlot = next.kind === 'generate';
      if ((needsSlot && freeSlots === 0) || !door.admits(rows.tokens.length, tokens.length)) break;
      queue.shift();
      if (needsSlot) freeSlots--;
      newcomers.push({ sequence: next, start: tokens.length, end: tokens.length + rows.tokens.length });
      for (const token of rows.tokens) tokens.push(token);
      for (const position of rows.positions) positions.push(position);
    }
    const lengths = this.live.map(({ length }) => length);
    return {
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from(positions),
      live,
      newcomers,
      masks: new Map(
        Array.from(live > 0 ? windowsOf(this.config) : [], (window) => [window, lengthMask(lengths, window)]),
      ),
      longest: Math.max(0, ...lengths),
    };
  }

  /**
   * Makes room for what the sweep adds to the KV cache.
   *
   * @throws OUT_OF_MEMORY before anything of the sweep is computed
   */
  grow(rows: SweepRows): Promise<void> {
    const prompts = seated(rows).map(({ start, end }) => end - start);
    return this.cache.grow(rows.live + prompts.length, Math.max(rows.longest, ...prompts));
  }

  /** Reads what attention needs of a layer, on other threads. */
  stage(layer: number, rows: SweepRows): Promise<KvLayer> {
    const stored = this.live.map(({ length }) => length - 1);
    return this.cache.stage(layer, stored, rows.live + seated(rows).length);
  }

  /**
   * Attention of one decoder layer. Writes the new keys and values to the cache.
   * @param into receives (rows, numHeads * headDim), from its row `firstRow`
   */
  async attend(
    backend: Backend,
    cached: KvLayer,
    rows: SweepRows,
    projection: Projection,
    { into, firstRow, layer }: { readonly into: Float32Array; readonly firstRow: number; readonly layer: number },
  ): Promise<void> {
    const window = windowOf(this.config, layer);
    this.live.forEach(({ length }, slot) => {
      cached.write(projection, { slot, position: length - 1, start: slot, end: slot + 1 });
    });
    seated(rows).forEach(({ start, end }, i) => {
      cached.write(projection, { slot: rows.live + i, position: 0, start, end });
    });
    await cached.store();
    const width = this.config.numHeads * this.config.headDim;
    const whole = rows.masks.get(window) ?? NO_MASK;
    const [queryWidth, maskWidth] = [queryKeySize(this.config), whole.length / rows.live];
    for (const { firstSlot, endSlot, blocks } of cached.groups(rows.live, rows.longest)) {
      const queries = projection.queryKey.subarray(firstSlot * queryWidth, endSlot * queryWidth);
      const mask = whole.subarray(firstSlot * maskWidth, endSlot * maskWidth);
      const attended = await backend.attendCache(queries, blocks, endSlot - firstSlot, mask);
      into.set(attended, (firstRow + firstSlot) * width);
    }
    for (const newcomer of rows.newcomers) {
      const { start } = newcomer;
      const attended = await this.attendNewcomer(backend, newcomer, projection, window);
      into.set(attended, (firstRow + start) * width);
    }
  }

  /** Seats the newcomers that go on, and lets everyone leave who has finished. Returns those who left. */
  async settle(rows: SweepRows): Promise<Sequence[]> {
    const left: Sequence[] = [];
    for (const { sequence } of rows.newcomers) {
      if (sequence.kind === 'generate') this.live.push(sequence);
      else left.push(sequence);
    }
    for (let slot = this.live.length - 1; slot >= 0; slot--) {
      const sequence = this.live[slot]!;
      if (!sequence.finished) continue;
      left.push(sequence);
      const last = this.live.pop()!;
      if (last === sequence) continue;
      this.live[slot] = last;
      // The last token's keys and values are not computed yet: they come with the next sweep.
      await this.cache.move(this.live.length, slot, last.length - 1);
    }
    await this.cache.trim(this.live.length, Math.max(0, ...this.live.map(({ length }) => length)));
    return left;
  }

  private async attendNewcomer(
    backend: Backend,
    { sequence, start, end }: NewcomerRows,
    { queryKey, value }: Projection,
    window: number | undefined,
  ): Promise<Float32Array> {
    const [width, valueWidth] = [queryKeySize(this.config), valueSize(this.config)];
    const keys = queryKey.subarray(start * width, end * width);
    const values = value.subarray(start * valueWidth, end * valueWidth);
    if (sequence.kind === 'score') {
      return backend.attendRows(keys, keys, values, treeMask(sequence.tree.parents, window));
    }
    const attended = new Float32Array((end - start) * this.config.numHeads * this.config.headDim);
    for (let from = 0; from < end - start; from += ATTENTION_TILE) {
      const to = Math.min(end - start, from + ATTENTION_TILE);
      // What no row of the tile sees is not looked at.
      const first = Math.max(0, from + 1 - (window ?? Number.POSITIVE_INFINITY));
      const tile = await backend.attendRows(
        keys.subarray(from * width, to * width),
        keys.subarray(first * width, to * width),
        values.subarray(first * valueWidth, to * valueWidth),
        causalMask(from - first, to - from, window),
      );
      attended.set(tile, from * this.config.numHeads * this.config.headDim);
    }
    return attended;
  }
}

/** The newcomers that get a slot, in the order of their slots. */
function seated({ newcomers }: SweepRows): readonly NewcomerRows[] {
  return newcomers.filter(({ sequence }) => sequence.kind === 'generate');
}

function newcomerRows(sequence: Sequence): {
  tokens: ArrayLike<number> & Iterable<number>;
  positions: Iterable<number>;
} {
  if (sequence.kind === 'score') return sequence.tree;
  return { tokens: sequence.prompt, positions: sequence.prompt.keys() };
}
