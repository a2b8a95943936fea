/**
 * The shape of the KV cache: blocks of KV_BLOCK_TOKENS positions of all slots of a GPU batch, for every layer.
 *
 * Keys and values of a block are each (slots, numKvHeads, KV_BLOCK_TOKENS, headDim), in the form that `kv-form.ts` knows. Live sequences
 * occupy slots 0..n-1, so any range of slots is contiguous.
 */
import { KV_BLOCK_TOKENS, type KvBlock, MASKED, type Projection } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import { kvRowUnits, kvWriter } from './kv-form.js';
import type { Fractions } from './placement.js';

/** Blocks that hold so many positions. */
export function blocksFor(length: number): number {
  return Math.ceil(length / KV_BLOCK_TOKENS);
}

/** Float32 units that one slot has among a block's keys; as many among its values. */
export function slotValues(config: ModelConfig): number {
  return config.numKvHeads * KV_BLOCK_TOKENS * kvRowUnits(config);
}

/** Bytes of a slot's keys in one block; its values take as many. */
export function slotBytes(config: ModelConfig): number {
  return slotValues(config) * Float32Array.BYTES_PER_ELEMENT;
}

/** Bytes that one sequence of this many tokens holds on all layers, in whole blocks. */
export function kvSlotBytes(config: ModelConfig, tokens: number): number {
  return 2 * blocksFor(tokens) * slotBytes(config) * config.numLayers;
}

/** Slots [0, resident) live on the tier that computes, [resident, host) on the cpu, the rest on disk. */
export interface SlotHomes {
  readonly resident: number;
  readonly host: number;
  readonly slots: number;
}

/** The fractions as slots, each within half a slot. On the tier that computes nothing moves, so the first slots live there. */
export function placeSlots(fractions: Fractions, slots: number, computeTier: 'gpu' | 'cpu'): SlotHomes {
  const upToCpu = Math.round((fractions.gpu + fractions.cpu) * slots);
  const resident = computeTier === 'cpu' ? upToCpu : Math.round(fractions.gpu * slots);
  return { resident, host: upToCpu, slots };
}

/** Slots [from, to) of a block, without a copy. */
export function sliceBlock({ key, value }: KvBlock, from: number, to: number, valuesPerSlot: number): KvBlock {
  const part = (data: Float32Array) => data.subarray(from * valuesPerSlot, to * valuesPerSlot);
  return { key: part(key), value: part(value) };
}

/** Which rows of a projection go where. */
export interface RowTarget {
  readonly slot: number;
  /** Of the first row; the others follow. */
  readonly position: number;
  readonly start: number;
  readonly end: number;
}

/** Writes rows [start, end) of a projection to consecutive positions of one slot. */
export function putRows(config: ModelConfig, blocks: readonly KvBlock[], rows: Projection, target: RowTarget): void {
  const { headDim, numHeads, numKvHeads } = config;
  const write = kvWriter(config);
  const [keyWidth, valueWidth] = [queryKeySize(config), valueSize(config)];
  const { slot, position, start, end } = target;
  for (let row = start; row < end; row++) {
    const at = position + row - start;
    const { key, value } = blocks[Math.floor(at / KV_BLOCK_TOKENS)]!;
    for (let head = 0; head < numKvHeads; head++) {
      const place = { slot, head, row: at % KV_BLOCK_TOKENS };
      write(key, place, rows.queryKey, row * keyWidth + (numHeads + head) * headDim);
      write(value, place, rows.value, row * valueWidth + head * headDim);
    }
  }
}

/**
 * (slots, whole blocks of the longest): open where a sequence has a position, masked behind its end.
 *
 * @param window positions that the last one sees at most, its own included
 */
export function lengthMask(lengths: readonly number[], window = Number.POSITIVE_INFINITY): Float32Array {
  const width = blocksFor(Math.max(...lengths)) * KV_BLOCK_TOKENS;
  const mask = new Float32Array(lengths.length * width);
  lengths.forEach((length, slot) => {
    mask.fill(MASKED, slot * width, slot * width + Math.max(0, length - window));
    mask.fill(MASKED, slot * width + length, (slot + 1) * width);
  });
  return mask;
}
