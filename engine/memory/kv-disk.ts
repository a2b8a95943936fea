/**
 * Keys and values of some slots in a file, read and written past the page cache.
 *
 * The file is (block, layer, keys then values, slot), each slot's part as memory holds it, so neighbouring slots are one
 * request and the file grows and shrinks at its end.
 */
import { KV_BLOCK_TOKENS, type KvBlock } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { type AlignmentProbe, alignUp, BLOCK_BYTES } from './aligned-buffer.js';
import type { DirectFile } from './direct-file.js';
import type { KvHome, KvPlace } from './kv-home.js';
import { slotBytes } from './kv-layout.js';
import { openScratch } from './scratch-file.js';
import type { Lease, Tier } from './tier.js';

/** All requests of a cell go to the system at once: while a product blocks this thread, nobody could hand in the rest. */
const IN_FLIGHT = 256;

export class KvDisk implements KvHome {
  private readonly file: DirectFile;
  private readonly leases: Lease[] = [];

  /** @throws BAD_INPUT if the directory cannot be written to */
  constructor(
    private readonly config: ModelConfig,
    readonly numSlots: number,
    private readonly tier: Tier,
    directory: string,
  ) {
    this.file = openScratch(directory, 'kv', { inFlight: IN_FLIGHT });
  }

  /** What staging buffers have to suit. */
  get probe(): AlignmentProbe {
    return this.file;
  }

  async grow(blocks: number): Promise<void> {
    if (blocks <= this.leases.length) return;
    const what = `a block of ${KV_BLOCK_TOKENS} tokens of the KV cache of ${this.numSlots} sequences`;
    while (this.leases.length < blocks) this.leases.push(this.tier.reserve(this.blockBytes, what));
    await this.file.reserve(blocks * this.blockBytes);
  }

  async trim(blocks: number): Promise<void> {
    if (blocks >= this.leases.length) return;
    for (const lease of this.leases.splice(blocks)) lease.release();
    // The first block of the file stays: alignment is tried on it.
    await this.file.truncate(Math.max(BLOCK_BYTES, blocks * this.blockBytes));
  }

  load(place: KvPlace, { key, value }: KvBlock): Promise<void> {
    const { layer, block } = place;
    const what = `KV cache of layer ${layer}, block ${block}`;
    return both(
      this.file.read(bytesOf(key), this.offset(place, 0), what),
      this.file.read(bytesOf(value), this.offset(place, 1), what),
    );
  }

  store(place: KvPlace, { key, value }: KvBlock): Promise<void> {
    return both(
      this.file.write(bytesOf(key), this.offset(place, 0)),
      this.file.write(bytesOf(value), this.offset(place, 1)),
    );
  }

  async close(): Promise<void> {
    for (const lease of this.leases.splice(0)) lease.release();
    await this.file.close();
  }

  /** Of all slots' keys in one block of one layer, in whole blocks of the file. */
  private get partBytes(): number {
    return alignUp(this.numSlots * slotBytes(this.config));
  }

  private get blockBytes(): number {
    return 2 * this.config.numLayers * this.partBytes;
  }

  private offset({ layer, block, from }: KvPlace, part: 0 | 1): number {
    return block * this.blockBytes + (2 * layer + part) * this.partBytes + from * slotBytes(this.config);
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Both settle, so that neither fills a buffer after the other's failure has given it back. */
async function both(...moves: Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(moves)) if (outcome.status === 'rejected') throw outcome.reason;
}
