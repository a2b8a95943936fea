/**
 * Where some slots of one GPU batch keep their keys and values, if not where attention computes: copied there when it
 * needs them, and back when it has written to them.
 */
import type { KvBlock } from '../backends/backend.js';

/** Slots [from, to), counted within the home, of one block of one decoder layer. */
export interface KvPlace {
  readonly layer: number;
  readonly block: number;
  readonly from: number;
  readonly to: number;
}

export interface KvHome {
  readonly numSlots: number;
  /**
   * Makes room for so many blocks on every layer.
   *
   * @throws OUT_OF_MEMORY if the tier or the disk has less left
   */
  grow(blocks: number): Promise<void>;
  /** Gives the blocks beyond the first so many back. */
  trim(blocks: number): Promise<void>;
  /** @param staged exactly the slots of `place`; nothing writes to it once this settles */
  load(place: KvPlace, staged: KvBlock): Promise<void>;
  store(place: KvPlace, staged: KvBlock): Promise<void>;
  /** Waits for what is under way, and gives everything back. */
  close(): Promise<void>;
}
