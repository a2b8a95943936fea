/**
 * Buffers on the tier that computes, for keys and values whose home is elsewhere.
 *
 * Two sets take turns: while attention reads one, the other is filled for the next cell. A set's turn comes when what was
 * written to it is stored.
 */
import type { KvBlock } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { type AlignmentProbe, alignedBuffer, alignUp, BLOCK_BYTES } from './aligned-buffer.js';
import { slotBytes, slotValues } from './kv-layout.js';
import type { Lease, Tier } from './tier.js';

export interface StagingSet {
  readonly blocks: KvBlock[];
  /** What is being written from here to its home. */
  stored: Promise<void>;
}

const NUM_SETS = 2;

/** Bytes that one block of both sets holds, alignment included. */
export function stagedBlockBytes(config: ModelConfig, numSlots: number): number {
  return NUM_SETS * 2 * (alignUp(numSlots * slotBytes(config)) + BLOCK_BYTES);
}

export class KvStaging {
  private readonly sets: StagingSet[] = Array.from({ length: NUM_SETS }, () => ({
    blocks: [],
    stored: Promise.resolve(),
  }));
  private readonly leases: Lease[] = [];
  private readonly underWay = new Set<Promise<unknown>>();
  private turn = 0;

  constructor(
    private readonly config: ModelConfig,
    readonly numSlots: number,
    private readonly tier: Tier,
    private readonly probe: AlignmentProbe,
  ) {}

  /** @throws OUT_OF_MEMORY if the tier has no room for so many blocks */
  grow(blocks: number): void {
    while (this.leases.length < blocks) {
      const bytes = stagedBlockBytes(this.config, this.numSlots);
      this.leases.push(this.tier.reserve(bytes, `a block of the KV cache of ${this.numSlots} sequences on their way`));
      for (const set of this.sets) set.blocks.push({ key: this.allocate(), value: this.allocate() });
    }
  }

  /** The set whose turn it is, once what was in it is stored. */
  async next(): Promise<StagingSet> {
    const set = this.sets[this.turn++ % NUM_SETS]!;
    await set.stored;
    return set;
  }

  /** Remembers work on the sets until it settles. Its error reaches whoever awaits the work itself. */
  track<Result>(work: Promise<Result>): Promise<Result> {
    const forget = () => this.underWay.delete(settled);
    const settled: Promise<boolean> = work.then(forget, forget);
    this.underWay.add(settled);
    return work;
  }

  /** Waits until everything is stored. */
  async drain(): Promise<void> {
    for (const { stored } of this.sets) await stored;
  }

  /** Waits for what is under way, however it ends. */
  async settle(): Promise<void> {
    while (this.underWay.size > 0) await Promise.all(this.underWay);
  }

  /** Waits for what is under way, and gives everything back. */
  async close(): Promise<void> {
    await this.settle();
    for (const set of this.sets) set.blocks.length = 0;
    for (const lease of this.leases.splice(0)) lease.release();
  }

  private allocate(): Float32Array {
    const { buffer, byteOffset } = alignedBuffer(this.numSlots * slotBytes(this.config), this.probe);
    return new Float32Array(buffer, byteOffset, this.numSlots * slotValues(this.config));
  }
}
