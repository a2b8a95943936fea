/**
 * The KV file of one attempt: for each live sequence a region of equal size, to which pieces are added.
 *
 * Pieces that are written never change, so every generation's extents stay good while the file grows. They are whole
 * blocks, written past the page cache: to copy them there would cost more than to write them. A region is given to another
 * sequence only when no generation that is kept refers to it. The file is not flushed: after a loss of power the sums tell,
 * and the tokens serve.
 */
import { join } from 'node:path';
import { type AlignedBuffer, alignedBuffer, alignUp } from '../memory/aligned-buffer.js';
import { type DirectFile, openDirect } from '../memory/direct-file.js';
import { type Checksum, checksum, EMPTY_CHECKSUM } from './checksum.js';
import { type KvExtent, kvName, positionsOf } from './generation.js';

/** A sequence's region, as far as it is filled. */
interface Region {
  readonly offset: number;
  readonly pieces: number[];
  sum: Checksum;
}

/** Bytes on their way to the file: whole blocks. */
export interface KvWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Generations on disk at a time. */
const GENERATIONS = 2;

/** Bytes that so many positions take, in whole blocks. */
export function pieceBytes(positions: number, bytesPerRow: number): number {
  return alignUp(positions * bytesPerRow);
}

/** Where a piece lies, from the beginning of its region. @param before positions of those before it */
export function pieceOffset(before: readonly number[], bytesPerRow: number): number {
  return before.reduce((sum, positions) => sum + pieceBytes(positions, bytesPerRow), 0);
}

export class KvFile {
  private readonly regions = new Map<number, Region>();
  /** Offsets that fell free, and the first generation that did not refer to them. */
  private readonly freed: { readonly offset: number; readonly generation: number }[] = [];
  private readonly regionBytes: number;
  private file: DirectFile | undefined;
  private endBytes = 0;

  /** @param longest positions of the longest sequence */
  constructor(
    private readonly directory: string,
    readonly number: number,
    longest: number,
    private readonly bytesPerRow: number,
  ) {
    // Should every position be a piece of its own.
    this.regionBytes = longest * pieceBytes(1, bytesPerRow);
  }

  /** Whether writing goes past the page cache. */
  get direct(): boolean {
    return this.file?.direct ?? false;
  }

  /** A buffer from which it does. @throws the system's error where the file cannot be made */
  allocate(bytes: number): AlignedBuffer {
    this.file ??= openDirect(join(this.directory, kvName(this.number)), 'create');
    return alignedBuffer(bytes, this.file);
  }

  /** Positions of a sequence that are in the file or on their way. */
  positions(index: number): number {
    const region = this.regions.get(index);
    return region ? positionsOf(region) : 0;
  }

  extent(index: number): KvExtent | undefined {
    const region = this.regions.get(index);
    if (!region) return undefined;
    return { file: this.number, offset: region.offset, pieces: [...region.pieces], checksum: region.sum };
  }

  /** Frees the regions of sequences that are no longer live in this generation. */
  keepOnly(live: ReadonlySet<number>, generation: number): void {
    for (const [index, { offset }] of this.regions) {
      if (live.has(index)) continue;
      this.regions.delete(index);
      this.freed.push({ offset, generation });
    }
  }

  /** Adds a piece to the end of a sequence's own. @param records of so many positions, followed by room to whole blocks */
  append(index: number, positions: number, records: Float32Array, generation: number): KvWrite {
    let region = this.regions.get(index);
    if (!region) {
      region = { offset: this.freeOffset(generation), pieces: [], sum: EMPTY_CHECKSUM };
      this.regions.set(index, region);
    }
    const offset = region.offset + pieceOffset(region.pieces, this.bytesPerRow);
    region.pieces.push(positions);
    region.sum = checksum(records, region.sum);
    return { offset, bytes: new Uint8Array(records.buffer, records.byteOffset, alignUp(records.byteLength)) };
  }

  async write(writes: readonly KvWrite[]): Promise<void> {
    await Promise.all(writes.map(({ offset, bytes }) => this.file!.write(bytes, offset)));
  }

  async close(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
  }

  private freeOffset(generation: number): number {
    const free = this.freed.findIndex((one) => one.generation + GENERATIONS <= generation);
    if (free >= 0) return this.freed.splice(free, 1)[0]!.offset;
    const offset = this.endBytes;
    this.endBytes += this.regionBytes;
    return offset;
  }
}
