/**
 * The KV cache of one GPU batch, on any tier: the first slots live where attention computes, the next on the cpu, the last
 * on disk.
 *
 * Attention sees two groups of slots, both as blocks in memory: those that live there, and staged copies of all others.
 * What it writes to a copy is stored while it goes on.
 */
import type { KvBlock, Projection } from '../backends/backend.js';
import { KV_BLOCK_TOKENS } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import type { Trace } from '../trace.js';
import type { KvHome } from './kv-home.js';
import { blocksFor, putRows, type RowTarget, type SlotHomes, sliceBlock, slotBytes, slotValues } from './kv-layout.js';
import type { KvMemory } from './kv-memory.js';
import { copyRecords } from './kv-records.js';
import type { KvStaging, StagingSet } from './kv-staging.js';

/** Slots that attention takes together. */
export interface KvGroup {
  readonly firstSlot: number;
  readonly endSlot: number;
  readonly blocks: readonly KvBlock[];
}

/** One layer, ready for attention. */
export interface KvLayer {
  /** Those of the first `slots` slots that are live, in blocks that cover `length` positions. */
  groups(slots: number, length: number): KvGroup[];
  write(rows: Projection, target: RowTarget): void;
  /** Begins to store what was written to copies; in the serial loop, waits for it too. */
  store(): Promise<void>;
}

/** Positions [from, to). */
export type Positions = readonly [from: number, to: number];

export interface KvCacheParts {
  readonly homes: SlotHomes;
  readonly resident: KvMemory;
  /** Of the slots behind the resident ones, in order; together they are `homes.slots - homes.resident`. */
  readonly moving: readonly KvHome[];
  /** For as many slots as move. */
  readonly staging: KvStaging;
  readonly overlap: boolean;
  readonly trace: Trace;
}

export class KvCache {
  constructor(
    private readonly config: ModelConfig,
    private readonly parts: KvCacheParts,
  ) {}

  /**
   * Makes room for the first `slots` slots to be `length` positions long, on every layer.
   *
   * @throws OUT_OF_MEMORY before anything is computed for them
   */
  async grow(slots: number, length: number): Promise<void> {
    const { homes, resident, moving, staging } = this.parts;
    const blocks = blocksFor(length);
    await resident.grow(blocks);
    if (slots <= homes.resident) return;
    staging.grow(blocks);
    for (const [home, firstSlot] of withFirstSlots(moving)) {
      if (slots > homes.resident + firstSlot) await home.grow(blocks);
    }
  }

  /** Gives back what lies beyond the first `slots` slots' first `length` positions, as far as whole blocks and homes go. */
  async trim(slots: number, length: number): Promise<void> {
    const { homes, resident, moving } = this.parts;
    await resident.trim(slots > 0 ? blocksFor(length) : 0);
    for (const [home, firstSlot] of withFirstSlots(moving)) {
      await home.trim(slots > homes.resident + firstSlot ? blocksFor(length) : 0);
    }
  }

  /**
   * One layer, once all that attention reads of it is in memory. Whoever asks for the next layer or GPU batch before this
   * one is through has it read meanwhile; at most two are in use at a time.
   *
   * @param lengths positions that each live slot has stored
   * @param slots in use in this sweep, newcomers included; `grow` made room for them
   */
  stage(layer: number, lengths: readonly number[], slots: number): Promise<KvLayer> {
    const { homes, staging } = this.parts;
    if (slots <= homes.resident) return Promise.resolve(this.layer(layer, undefined));
    const staged = async () => {
      const set = await staging.next();
      const moved = lengths.slice(homes.resident);
      const blocks = blocksFor(Math.max(0, ...moved));
      const loads: Promise<void>[] = [];
      for (let block = 0; block < blocks; block++) {
        const stored = [...moved.keys()].filter((slot) => moved[slot]! > block * KV_BLOCK_TOKENS);
        loads.push(...this.transfer('load', layer, block, stored, set));
      }
      await allSettled(loads);
      return this.layer(layer, set);
    };
    return staging.track(staged());
  }

  /** Moves the first `length` positions of a slot to one before it, on every layer. Nothing else is under way. */
  async move(from: number, to: number, length: number): Promise<void> {
    const { homes, resident, trace } = this.parts;
    const blocks = blocksFor(length);
    if (from < homes.resident) resident.move(from, to, blocks);
    else await trace.wait('kvWrite', () => this.moveStaged(from, to, blocks));
  }

  /**
   * Copies positions [from, to) of a slot to their records, or back. Nothing else is under way.
   *
   * @param records as `kv-records.ts` has them
   */
  async copy(what: 'take' | 'put', slot: number, [from, to]: Positions, records: Float32Array): Promise<void> {
    const { homes, resident, trace } = this.parts;
    if (slot >= homes.resident) {
      await trace.wait('kvWrite', () => this.copyStaged(what, slot - homes.resident, [from, to], records));
      return;
    }
    for (let layer = 0; layer < this.config.numLayers; layer++) {
      copyRecords(what, this.config, resident.blocks(layer, blocksFor(to)), { layer, slot, from, to }, records);
    }
  }

  /** Waits for what is under way, and gives everything back. */
  async close(): Promise<void> {
    await this.parts.resident.close();
    for (const home of this.parts.moving) await home.close();
  }

  /** Layer by layer through the staging sets: one is read while the one before it is stored. */
  private async moveStaged(from: number, to: number, blocks: number): Promise<void> {
    const { homes, resident, staging } = this.parts;
    const [source, target] = [from - homes.resident, to - homes.resident];
    for (let layer = 0; layer < this.config.numLayers; layer++) {
      const set = await staging.next();
      await allSettled(this.slotTransfers('load', layer, blocks, source, set));
      const into = target < 0 ? resident.blocks(layer, blocks) : set.blocks;
      for (let block = 0; block < blocks; block++) {
        this.copySlot(set.blocks[block]!, source, into[block]!, target < 0 ? to : target);
      }
      if (target >= 0) this.store(set, this.slotTransfers('store', layer, blocks, target, set));
    }
    await staging.drain();
  }

  /** As `moveStaged`. What is put into a part of a block needs the rest of the block. */
  private async copyStaged(what: 'take' | 'put', slot: number, [from, to]: Positions, records: Float32Array) {
    const { staging } = this.parts;
    const blocks = Array.from({ length: blocksFor(to) }, (_, i) => i).slice(Math.floor(from / KV_BLOCK_TOKENS));
    for (let layer = 0; layer < this.config.numLayers; layer++) {
      const set = await staging.next();
      await allSettled(blocks.flatMap((block) => this.transfer('load', layer, block, [slot], set)));
      copyRecords(what, this.config, set.blocks, { layer, slot, from, to }, records);
      if (what === 'take') continue;
      this.store(
        set,
        blocks.flatMap((block) => this.transfer('store', layer, block, [slot], set)),
      );
    }
    await staging.drain();
  }

  private layer(layer: number, set: StagingSet | undefined): KvLayer {
    const { homes, resident, overlap, trace } = this.parts;
    const written = new Map<number, number[]>();
    return {
      groups: (slots, length) => {
        const blocks = blocksFor(length);
        const split = Math.min(slots, homes.resident);
        return [
          ...(split > 0 ? [{ firstSlot: 0, endSlot: split, blocks: resident.blocks(layer, blocks) }] : []),
          ...(slots > split ? [{ firstSlot: split, endSlot: slots, blocks: set!.blocks.slice(0, blocks) }] : []),
        ];
      },
      write: (rows, target) => {
        const end = blocksFor(target.position + target.end - target.start);
        if (target.slot < homes.resident) {
          putRows(this.config, resident.blocks(layer, end), rows, target);
          return;
        }
        const slot = target.slot - homes.resident;
        putRows(this.config, set!.blocks, rows, { ...target, slot });
        for (let block = Math.floor(target.position / KV_BLOCK_TOKENS); block < end; block++) {
          written.set(block, [...(written.get(block) ?? []), slot]);
        }
      },
      store: async () => {
        if (!set) return;
        this.store(
          set,
          [...written].flatMap(([block, slots]) => this.transfer('store', layer, block, slots, set)),
        );
        if (!overlap) await trace.wait('kvWrite', () => set.stored);
      },
    };
  }

  private store(set: StagingSet, stores: readonly Promise<void>[]): void {
    set.stored = this.parts.staging.track(allSettled(stores));
    // The error reaches whoever takes the set next or drains; until then it must not count as unhandled.
    set.stored.catch(() => undefined);
  }

  private slotTransfers(what: 'load' | 'store', layer: number, blocks: number, slot: number, set: StagingSet) {
    return Array.from({ length: blocks }, (_, block) => this.transfer(what, layer, block, [slot], set)).flat();
  }

  /** @param slots ascending, counted among those that move; neighbours with one home travel together */
  private transfer(what: 'load' | 'store', layer: number, block: number, slots: readonly number[], set: StagingSet) {
    const { moving, trace } = this.parts;
    const moves: Promise<void>[] = [];
    for (const [home, firstSlot] of withFirstSlots(moving)) {
      const own = slots.filter((slot) => slot >= firstSlot && slot < firstSlot + home.numSlots);
      for (const [from, to] of runs(own)) {
        const staged = sliceBlock(set.blocks[block]!, from, to, slotValues(this.config));
        moves.push(home[what]({ layer, block, from: from - firstSlot, to: to - firstSlot }, staged));
        trace.moved(what === 'load' ? 'kvRead' : 'kvWrite', 2 * (to - from) * slotBytes(this.config));
      }
    }
    return moves;
  }

  private copySlot(source: KvBlock, from: number, target: KvBlock, to: number): void {
    const size = slotValues(this.config);
    target.key.set(source.key.subarray(from * size, (from + 1) * size), to * size);
    target.value.set(source.value.subarray(from * size, (from + 1) * size), to * size);
  }
}

function withFirstSlots(homes: readonly KvHome[]): [home: KvHome, firstSlot: number][] {
  let firstSlot = 0;
  return homes.map((home) => {
    const first = firstSlot;
    firstSlot += home.numSlots;
    return [home, first];
  });
}

/** Ascending numbers as ranges [from, to). */
function runs(ascending: readonly number[]): [from: number, to: number][] {
  const ranges: [number, number][] = [];
  for (const number of ascending) {
    const last = ranges.at(-1);
    if (last?.[1] === number) last[1]++;
    else ranges.push([number, number + 1]);
  }
  return ranges;
}

/** All settle, so that none moves bytes after a failure has given its buffer back. */
async function allSettled(moves: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(moves)) if (outcome.status === 'rejected') throw outcome.reason;
}
