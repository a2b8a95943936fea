/** Keys and values of some slots in memory: where attention computes, or on the cpu beside a gpu that does. */
import { KV_BLOCK_TOKENS, type KvBlock } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import type { KvHome, KvPlace } from './kv-home.js';
import { sliceBlock, slotBytes, slotValues } from './kv-layout.js';
import type { Lease, Tier } from './tier.js';

interface HeldBlock extends KvBlock {
  readonly lease: Lease;
}

export class KvMemory implements KvHome {
  /** By decoder layer, then by block. */
  private readonly layers: HeldBlock[][];

  constructor(
    private readonly config: ModelConfig,
    readonly numSlots: number,
    private readonly tier: Tier,
  ) {
    this.layers = Array.from({ length: config.numLayers }, () => []);
  }

  /** The first blocks of one layer; `grow` has made them. */
  blocks(layer: number, count: number): readonly KvBlock[] {
    return this.layers[layer]!.slice(0, count);
  }

  async grow(blocks: number): Promise<void> {
    if (this.numSlots === 0) return;
    for (const layer of this.layers) while (layer.length < blocks) layer.push(this.emptyBlock());
  }

  async trim(blocks: number): Promise<void> {
    for (const layer of this.layers) for (const { lease } of layer.splice(blocks)) lease.release();
  }

  /** Moves the first blocks of a slot to another, on every layer. */
  move(from: number, to: number, blocks: number): void {
    const size = slotValues(this.config);
    for (let layer = 0; layer < this.layers.length; layer++) {
      for (const { key, value } of this.blocks(layer, blocks)) {
        for (const data of [key, value]) data.copyWithin(to * size, from * size, (from + 1) * size);
      }
    }
  }

  async load(place: KvPlace, staged: KvBlock): Promise<void> {
    const own = this.own(place);
    staged.key.set(own.key);
    staged.value.set(own.value);
  }

  async store(place: KvPlace, staged: KvBlock): Promise<void> {
    const own = this.own(place);
    own.key.set(staged.key);
    own.value.set(staged.value);
  }

  close(): Promise<void> {
    return this.trim(0);
  }

  private own({ layer, block, from, to }: KvPlace): KvBlock {
    return sliceBlock(this.layers[layer]![block]!, from, to, slotValues(this.config));
  }

  private emptyBlock(): HeldBlock {
    const { numSlots, config } = this;
    const what = `a block of ${KV_BLOCK_TOKENS} tokens of the KV cache of ${numSlots} sequences`;
    const lease = this.tier.reserve(2 * numSlots * slotBytes(config), what);
    const size = numSlots * slotValues(config);
    return { key: new Float32Array(size), value: new Float32Array(size), lease };
  }
}
