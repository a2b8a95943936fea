/**
 * One GPU batch: sequences that are computed together, and their KV cache.
 *
 * In every sweep it takes one row of each live sequence and all rows of its newcomers, packed without padding. Finished
 * sequences leave at once; the last slot's sequence moves into the gap, so live slots stay contiguous.
 */
import type { Backend, Projection } from '../backends/backend.js';
import type { KvCache, KvLayer, Positions } from '../memory/kv-cache.js';
import { lengthMask, sliceBlock, slotValues } from '../memory/kv-layout.js';
import { Scratch } from '../memory/scratch.js';
import { windowOf, windowsOf } from '../model/attention.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize } from '../model/layers.js';
import type { GenerateSequence, Sequence } from '../sequence.js';
import { blocksInCommon, slotRuns } from './common-blocks.js';
import type { Admission } from './door.js';
import type { KeepOrder, PrefixStore } from './prefix-store.js';
import { attendPrompt } from './prompt-attention.js';
import { attendGenerated } from './returned.js';
import { RowSources } from './row-ranges.js';
import { mostShared, NO_PREFIX, PrefixIndex, type SharedPrefix } from './shared-prefix.js';
import type { TokenTree } from './token-tree.js';

/** Rows [start, end) of the sweep belong to this newcomer: one that is new, or one that comes back with its tokens. */
export interface NewcomerRows {
  readonly sequence: Sequence;
  /** Its first positions, whose keys and values are in the cache already. */
  readonly kept: number;
  /** Its first positions, whose rows other newcomers of the sweep have, or are kept. */
  readonly shared: SharedPrefix;
  readonly start: number;
  readonly end: number;
}

/** A sequence's own positions in the cache, in records. */
export interface Seat {
  readonly sequence: GenerateSequence;
  copy(what: 'take' | 'put', positions: Positions, records: Float32Array): Promise<void>;
}

/** What one GPU batch computes in one sweep. Rows 0..live-1 are the live sequences', one each, in slot order. */
export interface SweepRows {
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly live: number;
  readonly newcomers: readonly NewcomerRows[];
  /** What is to be kept of their beginnings. */
  readonly keeps: readonly KeepOrder[];
  /** Rows of prompts that are computed for the first time, options included. */
  readonly promptRows: number;
  /** Blocks that each live sequence has in common with the next one. */
  readonly inCommon: readonly number[];
  /** By window: (live, cached positions), which cached positions each live row sees. */
  readonly masks: ReadonlyMap<number | undefined, Float32Array>;
  readonly longest: number;
}

const NO_MASK = new Float32Array(0);

export class GpuBatch {
  private readonly live: GenerateSequence[] = [];
  private readonly scratch = new Scratch();
  /** In the slots behind the live ones until the next sweep. */
  private readonly returning: { readonly sequence: GenerateSequence; readonly kept: number }[] = [];

  constructor(
    private readonly config: ModelConfig,
    readonly numSlots: number,
    private readonly cache: KvCache,
    /** Absent: every sequence computes all its rows. */
    private readonly prefixes: PrefixStore | undefined,
  ) {}

  get liveSequences(): readonly GenerateSequence[] {
    return this.live;
  }

  get freeSlots(): number {
    return this.numSlots - this.live.length - this.returning.length;
  }

  /** Between sweeps. */
  get seats(): readonly Seat[] {
    return this.live.map((sequence, slot) => this.seat(sequence, slot));
  }

  /**
   * Takes a sequence back whose keys and values were kept, into a free slot.
   *
   * @param load puts those of its first positions, and says how many
   * @returns false where the prompt is not among them: then it enters like any newcomer
   */
  async welcome(sequence: GenerateSequence, load: (seat: Seat) => Promise<number>): Promise<boolean> {
    const slot = this.live.length + this.returning.length;
    await this.cache.grow(slot + 1, sequence.length);
    const kept = await load(this.seat(sequence, slot));
    if (kept < sequence.prompt.length) return false;
    this.returning.push({ sequence, kept });
    return true;
  }

  /** Takes newcomers from the queue's front while slots last and the door lets them in; lays out the next sweep. */
  layOut(queue: Sequence[], door: Admission): SweepRows {
    const live = this.live.length;
    const tokens = this.live.map(({ tokens, prompt }) => tokens.at(-1) ?? prompt.at(-1)!);
    const positions = this.live.map(({ length }) => length - 1);
    const newcomers: NewcomerRows[] = [];
    let freeSlots = this.freeSlots;
    const enter = (sequence: Sequence, rows: TokenRows, { kept = 0, shared = NO_PREFIX }: Partial<NewcomerRows>) => {
      newcomers.push({ sequence, kept, shared, start: tokens.length, end: tokens.length + rows.tokens.length });
      for (const token of rows.tokens) tokens.push(token);
      for (const position of rows.positions) positions.push(position);
    };
    for (const { sequence, kept } of this.returning.splice(0)) {
      this.prefixes?.leave(sequence);
      enter(sequence, rowsFrom(sequence, kept), { kept });
    }
    const index = this.prefixes && new PrefixIndex();
    const entered: Parameters<PrefixStore['enter']>[0][number][] = [];
    for (let next = queue[0]; next; next = queue[0]) {
      const shared = index?.find(next, this.prefixes!.find(next, mostShared(next))) ?? NO_PREFIX;
      const rows = next.kind === 'score' ? treeRowsFrom(next.tree, shared.length) : rowsFrom(next, shared.length);
      const needsSlot = next.kind === 'generate';
      if ((needsSlot && freeSlots === 0) || !door.admits(rows.tokens.length, tokens.length)) break;
      queue.shift();
      if (needsSlot) freeSlots--;
      if (index) entered.push({ sequence: next, ranges: index.add(next, shared, tokens.length) });
      enter(next, rows, { shared });
    }
    const lengths = this.live.map(({ length }) => length);
    return {
      tokens: Int32Array.from(tokens),
      positions: Int32Array.from(positions),
      live,
      newcomers,
      keeps: this.prefixes?.enter(entered) ?? [],
      inCommon: this.prefixes ? blocksInCommon(this.live) : [],
      promptRows: newcomers.filter(isNew).reduce((sum, { start, end }) => sum + end - start, 0),
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
    const lengths = seated(rows).map((newcomer) => firstPosition(newcomer) + newcomer.end - newcomer.start);
    return this.cache.grow(rows.live + lengths.length, Math.max(rows.longest, ...lengths));
  }

  /** Reads what attention needs of a layer, on other threads. */
  stage(layer: number, rows: SweepRows): Promise<KvLayer> {
    const stored = this.live.map(({ length }) => length - 1);
    const kept = seated(rows).map((newcomer) => newcomer.kept);
    return this.cache.stage(layer, [...stored, ...kept], rows.live + kept.length);
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
    const sources = new RowSources(this.config, layer, projection, this.scratch);
    for (const { rows: kept, ranges } of rows.keeps) kept.put(layer, sources, ranges);
    this.live.forEach(({ length }, slot) => {
      cached.write(projection, { slot, position: length - 1, start: slot, end: slot + 1 });
    });
    seated(rows).forEach(({ kept, shared, start, end }, i) => {
      let position = kept;
      for (const range of [...shared.ranges, { start, end }]) {
        cached.write(sources.of(range), { slot: rows.live + i, position, start: range.start, end: range.end });
        position += range.end - range.start;
      }
    });
    await cached.store();
    const width = this.config.numHeads * this.config.headDim;
    const whole = rows.masks.get(window) ?? NO_MASK;
    const [queryWidth, maskWidth] = [queryKeySize(this.config), whole.length / rows.live];
    for (const { firstSlot, endSlot, blocks } of cached.groups(rows.live, rows.longest)) {
      for (const { first, end, common } of slotRuns(backend.sharesBlocks ? rows.inCommon : [], firstSlot, endSlot)) {
        const queries = projection.queryKey.subarray(first * queryWidth, end * queryWidth);
        const own = blocks.map((block) =>
          sliceBlock(block, first - firstSlot, end - firstSlot, slotValues(this.config)),
        );
        const mask = whole.subarray(first * maskWidth, end * maskWidth);
        const attended = await backend.attendCache(queries, own, end - first, mask, common);
        into.set(attended, (firstRow + first) * width);
      }
    }
    for (const newcomer of rows.newcomers) {
      const { start } = newcomer;
      const end = promptEnd(newcomer);
      if (end === start) continue;
      const attended = await attendPrompt(backend, { ...newcomer, end }, sources, { config: this.config, window });
      into.set(attended, (firstRow + start) * width);
    }
    const generated = seated(rows).map((newcomer, i) => ({
      slot: rows.live + i,
      start: promptEnd(newcomer),
      end: newcomer.end,
      position: firstPosition(newcomer) + promptEnd(newcomer) - newcomer.start,
    }));
    await attendGenerated(backend, this.config, cached, generated, projection, { into, firstRow, window });
  }

  /** Seats the newcomers that go on, and lets everyone leave who has finished. */
  async settle(rows: SweepRows): Promise<void> {
    this.prefixes?.settle(rows.keeps);
    for (const { sequence } of seated(rows)) this.live.push(sequence as GenerateSequence);
    for (let slot = this.live.length - 1; slot >= 0; slot--) {
      const sequence = this.live[slot]!;
      if (!sequence.finished) continue;
      const last = this.live.pop()!;
      if (last === sequence) continue;
      this.live[slot] = last;
      // The last token's keys and values are not computed yet: they come with the next sweep.
      await this.cache.move(this.live.length, slot, last.length - 1);
    }
    await this.cache.trim(this.live.length, Math.max(0, ...this.live.map(({ length }) => length)));
  }

  private seat(sequence: GenerateSequence, slot: number): Seat {
    return { sequence, copy: (what, positions, records) => this.cache.copy(what, slot, positions, records) };
  }
}

/** The newcomers that get a slot, in the order of their slots. */
function seated({ newcomers }: SweepRows): readonly NewcomerRows[] {
  return newcomers.filter(({ sequence }) => sequence.kind === 'generate');
}

function isNew({ sequence }: NewcomerRows): boolean {
  return sequence.kind === 'score' || sequence.tokens.length === 0;
}

/** Of its own rows. */
function firstPosition({ kept, shared }: NewcomerRows): number {
  return kept + shared.length;
}

/** Where the rows end that attend among themselves. */
function promptEnd(newcomer: NewcomerRows): number {
  const { sequence, start, end } = newcomer;
  if (sequence.kind === 'score') return end;
  return Math.min(end, start + Math.max(0, sequence.prompt.length - firstPosition(newcomer)));
}

type TokenRows = Pick<TokenTree, 'tokens' | 'positions'>;

function treeRowsFrom({ tokens, positions }: TokenTree, row: number): TokenRows {
  return { tokens: tokens.subarray(row), positions: positions.subarray(row) };
}

/** From this position to the newest token. */
function rowsFrom({ prompt, tokens, length }: GenerateSequence, position: number): TokenRows {
  return {
    tokens: Int32Array.from([...prompt, ...tokens].slice(position)),
    positions: Int32Array.from({ length: length - position }, (_, i) => position + i),
  };
}
