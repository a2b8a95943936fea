/**
 * Which ids were seen, for many millions of rows: 16 bytes an id and no strings.
 */
import { createHash } from 'node:crypto';

const wordsPerSlot = 4;
const maxLoad = 0.5;

/** Ids by 96 bits of their SHA-256: two different ones are never confused in practice. */
export class SeenIds {
  private slots = new Uint32Array(1024 * wordsPerSlot);
  private count = 0;

  /** The row that had this id before, or undefined after noting that `row` has it now. Rows count from 0. */
  add(id: string, row: number): number | undefined {
    if ((this.count + 1) * wordsPerSlot > this.slots.length * maxLoad) this.grow();
    const digest = createHash('sha256').update(id).digest();
    // The row is kept plus one, so that 0 marks a free slot.
    const entry = Uint32Array.of(digest.readUInt32LE(0), digest.readUInt32LE(4), digest.readUInt32LE(8), row + 1);
    const before = this.insert(entry);
    if (before !== undefined) return before - 1;
    this.count++;
    return undefined;
  }

  private insert(entry: Uint32Array): number | undefined {
    const { slots } = this;
    const [a, b, c] = entry;
    for (let at = (a! * wordsPerSlot) % slots.length; ; at = (at + wordsPerSlot) % slots.length) {
      const row = slots[at + 3]!;
      if (row === 0) {
        slots.set(entry, at);
        return undefined;
      }
      if (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c) return row;
    }
  }

  private grow(): void {
    const old = this.slots;
    this.slots = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += wordsPerSlot)
      if (old[at + 3] !== 0) this.insert(old.subarray(at, at + wordsPerSlot));
  }
}
