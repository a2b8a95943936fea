/**
 * Reads kept keys and values back, where that is expected to be faster than to compute them anew from the tokens.
 *
 * What does not fit its sum, or is not there, is left to the tokens.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { recordBytes, recordValues } from '../memory/kv-records.js';
import type { Tier } from '../memory/tier.js';
import type { ModelConfig } from '../model/config.js';
import type { Seat } from '../schedule/gpu-batch.js';
import { checksum, EMPTY_CHECKSUM } from './checksum.js';
import { type KvExtent, kvName, positionsOf } from './generation.js';
import { pieceOffset } from './kv-file.js';

export interface KvSource {
  readonly directory: string;
  readonly config: ModelConfig;
  /** Holds what is on its way. */
  readonly tier: Tier;
  readonly extents: ReadonlyMap<number, KvExtent>;
  /** Of the attempt before; null where it is not known. */
  readonly promptRowsPerSecond: number | null;
}

/** Bytes and seconds of what was read so far, sums and copies included. */
export interface ReadRate {
  readonly bytes: number;
  readonly seconds: number;
}

/** Less tells nothing of a disk: the first read opens a file, and code that runs for the first time is slow. */
const PROBE_BYTES = 8 * 2 ** 20;

/** Whether a position is sooner read than computed. Unknown rates are tried by reading. */
export function readsFaster(bytesPerRow: number, { bytes, seconds }: ReadRate, rowsPerSecond: number | null): boolean {
  if (bytes < PROBE_BYTES || rowsPerSecond === null) return true;
  return (bytesPerRow * seconds) / bytes <= 1 / rowsPerSecond;
}

export class KvLoad {
  /** Read back so far. */
  positions = 0;
  readonly problems = new Set<string>();
  private readonly waiting: Map<number, KvExtent>;
  private readonly loaded = new Map<number, KvExtent>();
  private readonly files = new Map<number, FileHandle>();
  private rate: ReadRate = { bytes: 0, seconds: 0 };

  constructor(private readonly source: KvSource) {
    this.waiting = new Map(source.extents);
  }

  /** Whether reading is to be tried. */
  holds(index: number): boolean {
    return this.waiting.has(index);
  }

  /** What was kept of a sequence and is not known to be damaged. */
  extent(index: number): KvExtent | undefined {
    return this.loaded.get(index) ?? this.waiting.get(index);
  }

  /** Fills a seat's first positions; once for each sequence. @returns how many came back: all that were kept, or none */
  async load(index: number, seat: Seat): Promise<number> {
    const extent = this.waiting.get(index)!;
    this.waiting.delete(index);
    const { config, tier, promptRowsPerSecond } = this.source;
    const bytesPerRow = recordBytes(config);
    if (!readsFaster(bytesPerRow, this.rate, promptRowsPerSecond)) return 0;
    const positions = positionsOf(extent);
    const pieceBytes = Math.max(0, ...extent.pieces) * bytesPerRow;
    if (positions >= seat.sequence.length || pieceBytes > tier.freeBytes) return 0;
    const start = performance.now();
    const lease = tier.reserve(pieceBytes, 'keys and values on their way from a checkpoint');
    try {
      await this.read(extent, seat);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.problems.add(`some keys and values are computed anew: ${kvName(extent.file)}: ${reason}`);
      return 0;
    } finally {
      lease.release();
    }
    const seconds = (performance.now() - start) / 1000;
    this.rate = {
      bytes: this.rate.bytes + positions * bytesPerRow,
      seconds: this.rate.seconds + seconds,
    };
    this.loaded.set(index, extent);
    this.positions += positions;
    return positions;
  }

  async close(): Promise<void> {
    for (const file of this.files.values()) await file.close();
    this.files.clear();
  }

  /** @throws Error where the bytes are not those that were kept */
  private async read({ file, offset, pieces, checksum: expected }: KvExtent, seat: Seat) {
    const width = recordValues(this.source.config);
    const handle = await this.open(file);
    let sum = EMPTY_CHECKSUM;
    let from = 0;
    for (const [i, positions] of pieces.entries()) {
      const records = new Float32Array(positions * width);
      const bytes = new Uint8Array(records.buffer);
      const at = offset + pieceOffset(pieces.slice(0, i), width * Float32Array.BYTES_PER_ELEMENT);
      for (let done = 0; done < bytes.length; ) {
        const { bytesRead } = await handle.read(bytes, done, bytes.length - done, at + done);
        if (bytesRead === 0) throw new Error('it is cut short');
        done += bytesRead;
      }
      sum = checksum(records, sum);
      await seat.copy('put', [from, from + positions], records);
      from += positions;
    }
    if (sum[0] !== expected[0] || sum[1] !== expected[1]) throw new Error('its bytes do not fit their sum');
  }

  private async open(file: number): Promise<FileHandle> {
    let handle = this.files.get(file);
    if (!handle) {
      handle = await open(join(this.source.directory, kvName(file)), 'r');
      this.files.set(file, handle);
    }
    return handle;
  }
}
