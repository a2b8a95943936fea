/**
 * The KV cache of one GPU batch: for every layer, blocks of KV_BLOCK_TOKENS positions of all its slots.
 *
 * A block is (slots, numKvHeads, KV_BLOCK_TOKENS, headDim), as attention reads it; the cache grows by a block when its
 * longest sequence does. Live sequences occupy slots 0..n-1, so the first n slots of a block are contiguous.
 */
import { KV_BLOCK_TOKENS, type KvBlock, MASKED, type Projection } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import type { Lease, Tier } from './tier.js';

/** Bytes that one sequence of this many tokens holds on all layers, in whole blocks. */
export function kvSlotBytes(config: ModelConfig, tokens: number): number {
  const blocks = Math.ceil(tokens / KV_BLOCK_TOKENS);
  return blocks * kvBlockBytes(config, 1) * config.numLayers;
}

/** Bytes that one block holds on one layer. */
function kvBlockBytes(config: ModelConfig, slots: number): number {
  return 2 * slots * valueSize(config) * KV_BLOCK_TOKENS * Float32Array.BYTES_PER_ELEMENT;
}

interface HeldBlock extends KvBlock {
  readonly lease: Lease;
}

export class KvCache {
  /** By decoder layer, then by block. */
  private readonly layers: HeldBlock[][];

  constructor(
    private readonly config: ModelConfig,
    readonly numSlots: number,
    private readonly tier: Tier,
  ) {
    this.layers = Array.from({ length: config.numLayers }, () => []);
  }

  /** Blocks of one layer that cover the first `length` positions. */
  blocks(layer: number, length: number): readonly KvBlock[] {
    const blocks = this.layers[layer]!;
    const needed = Math.ceil(length / KV_BLOCK_TOKENS);
    while (blocks.length < needed) blocks.push(this.emptyBlock());
    return blocks.slice(0, needed);
  }

  /** Gives back the blocks beyond the first `length` positions. */
  trim(length: number): void {
    const needed = Math.ceil(length / KV_BLOCK_TOKENS);
    for (const blocks of this.layers) for (const { lease } of blocks.splice(needed)) lease.release();
  }

  /** Writes rows [start, end) of a projection to consecutive positions of one slot. */
  writeRows(layer: number, slot: number, position: number, rows: Projection, start: number, end: number): void {
    const { headDim, numHeads, numKvHeads } = this.config;
    const [keyWidth, valueWidth] = [queryKeySize(this.config), valueSize(this.config)];
    const blocks = this.blocks(layer, position + end - start);
    for (let row = start; row < end; row++) {
      const at = position + row - start;
      const { key, value } = blocks[Math.floor(at / KV_BLOCK_TOKENS)]!;
      for (let head = 0; head < numKvHeads; head++) {
        const into = ((slot * numKvHeads + head) * KV_BLOCK_TOKENS + (at % KV_BLOCK_TOKENS)) * headDim;
        const keyFrom = row * keyWidth + (numHeads + head) * headDim;
        const valueFrom = row * valueWidth + head * headDim;
        for (let i = 0; i < headDim; i++) {
          key[into + i] = rows.queryKey[keyFrom + i]!;
          value[into + i] = rows.value[valueFrom + i]!;
        }
      }
    }
  }

  /** Moves the first `length` positions of a slot to another, on every layer. */
  move(from: number, to: number, length: number): void {
    const size = valueSize(this.config) * KV_BLOCK_TOKENS;
    for (let layer = 0; layer < this.layers.length; layer++) {
      for (const { key, value } of this.blocks(layer, length)) {
        key.copyWithin(to * size, from * size, (from + 1) * size);
        value.copyWithin(to * size, from * size, (from + 1) * size);
      }
    }
  }

  private emptyBlock(): HeldBlock {
    const lease = this.tier.reserve(kvBlockBytes(this.config, this.numSlots), 'a block of the KV cache');
    const size = this.numSlots * valueSize(this.config) * KV_BLOCK_TOKENS;
    return { key: new Float32Array(size), value: new Float32Array(size), lease };
  }
}

/** (slots, whole blocks of the longest): open where a sequence has a position, masked behind its end. */
export function lengthMask(lengths: readonly number[]): Float32Array {
  const width = Math.ceil(Math.max(...lengths) / KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS;
  const mask = new Float32Array(lengths.length * width);
  lengths.forEach((length, slot) => {
    mask.fill(MASKED, slot * width + length, (slot + 1) * width);
  });
  return mask;
}
