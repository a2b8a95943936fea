/**
 * A file read and written past the page cache, on other threads, while this one computes.
 *
 * With O_DIRECT the system does not hold a model a second time, and reading costs a fifth of one core. What O_DIRECT
 * cannot take (unaligned ranges or addresses, file systems that refuse it) goes through an ordinary descriptor of the
 * same file: as right, only slower, and counted.
 */
import { closeSync, constants, fstatSync, fsync, ftruncate, openSync, read, readSync, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { EngineError } from '../errors.js';
import type { AlignmentProbe } from './aligned-buffer.js';
import { alignedBuffer, BLOCK_BYTES, viewOf } from './aligned-buffer.js';
import { openError, readError, reasonOf, requireDisk, writeError } from './direct-file-errors.js';
import { Slots } from './slots.js';

/** `create` makes the file anew, one block of zeros long; `update` reads and writes one that exists. */
export type DirectMode = 'read' | 'create' | 'update';

export interface DirectOptions {
  /** False never tries O_DIRECT. */
  readonly direct?: boolean;
  /** Bytes of one request to the system. */
  readonly pieceBytes?: number;
  /** Requests at a time. libuv has four threads unless told otherwise. */
  readonly inFlight?: number;
}

export interface DirectFile extends AlignmentProbe {
  readonly path: string;
  /** Whether aligned ranges go past the page cache. */
  readonly direct: boolean;
  /** Of the file as it was opened. */
  readonly sizeBytes: number;
  /** Bytes moved so far, by the way they went. */
  counts(): DirectCounts;
  /**
   * Fills `into` from `offset` on. Once this settles, nothing writes to `into` any more.
   *
   * @param what the object being read, for messages.
   * @throws BAD_WEIGHTS if the file ends before the needed bytes, or the disk fails.
   */
  read(into: Uint8Array, offset: number, what: string, options?: ReadOptions): Promise<void>;
  /** @throws OUT_OF_MEMORY (tier disk) if the disk is full. */
  write(from: Uint8Array, offset: number): Promise<void>;
  /**
   * Makes the file this long, so that a disk that is too small is known before work starts. The space is not set aside:
   * another process may still take it.
   *
   * @throws OUT_OF_MEMORY (tier disk) if the file system has less left.
   */
  reserve(bytes: number): Promise<void>;
  /** Makes the file this long: what is cut off gives its space back. Nothing is under way beyond the new end. */
  truncate(bytes: number): Promise<void>;
  /** Waits until what was written is on the disk. */
  sync(): Promise<void>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

export interface ReadOptions {
  /** Less than is asked for, where the file may end before. */
  readonly neededBytes?: number;
  /** Before what already waits for its turn. */
  readonly urgent?: boolean;
}

export interface DirectCounts {
  readonly directBytes: number;
  readonly ordinaryBytes: number;
}

const DEFAULT_PIECE_BYTES = 4 * 1024 * 1024;
const DEFAULT_IN_FLIGHT = 4;

/** @throws BAD_INPUT if the file cannot be opened. */
export function openDirect(path: string, mode: DirectMode, options: DirectOptions = {}): DirectFile {
  const ordinary = openAs(path, flagsOf[mode]);
  try {
    // Alignment can only be tried on a block that the disk holds: a hole is read without being looked at.
    if (mode === 'create') writeSync(ordinary, new Uint8Array(BLOCK_BYTES), 0, BLOCK_BYTES, 0);
    const direct = options.direct === false ? undefined : openUncached(path, mode);
    return new OpenFile(path, ordinary, direct, options);
  } catch (error) {
    closeSync(ordinary);
    throw error;
  }
}

const flagsOf: Readonly<Record<DirectMode, number>> = {
  read: constants.O_RDONLY,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC,
  update: constants.O_RDWR,
};

function openAs(path: string, flags: number): number {
  try {
    return openSync(path, flags, 0o644);
  } catch (error) {
    throw openError(path, error);
  }
}

/** A descriptor with O_DIRECT, or undefined where the system or the file system has no such thing. */
function openUncached(path: string, mode: DirectMode): number | undefined {
  const flag: number | undefined = constants.O_DIRECT;
  if (flag === undefined) return undefined;
  try {
    return openSync(path, (mode === 'read' ? constants.O_RDONLY : constants.O_RDWR) | flag);
  } catch (error) {
    if (reasonOf(error) === 'EINVAL') return undefined;
    throw openError(path, error);
  }
}

class OpenFile implements DirectFile {
  readonly sizeBytes: number;
  private readonly pieceBytes: number;
  private readonly slots: Slots;
  private directBytes = 0;
  private ordinaryBytes = 0;
  private isOpen = true;

  constructor(
    readonly path: string,
    private readonly ordinary: number,
    private uncached: number | undefined,
    { pieceBytes = DEFAULT_PIECE_BYTES, inFlight = DEFAULT_IN_FLIGHT }: DirectOptions,
  ) {
    this.sizeBytes = fstatSync(ordinary).size;
    this.pieceBytes = pieceBytes;
    this.slots = new Slots(inFlight);
    if (uncached !== undefined && !this.takesSomeAddress()) {
      closeSync(uncached);
      this.uncached = undefined;
    }
  }

  get direct(): boolean {
    return this.uncached !== undefined;
  }

  counts(): DirectCounts {
    return { directBytes: this.directBytes, ordinaryBytes: this.ordinaryBytes };
  }

  accepts(block: Uint8Array): boolean {
    if (this.uncached === undefined) return false;
    try {
      return readSync(this.uncached, block, 0, BLOCK_BYTES, 0) === BLOCK_BYTES;
    } catch (error) {
      if (reasonOf(error) === 'EINVAL') return false;
      throw readError(this.path, 'first block', error);
    }
  }

  async read(into: Uint8Array, offset: number, what: string, options: ReadOptions = {}): Promise<void> {
    const { neededBytes = into.length, urgent = false } = options;
    const piece = async (start: number, end: number) => {
      const foundBytes = await this.readPiece(into.subarray(start, end), offset + start, what);
      if (start + foundBytes >= Math.min(end, neededBytes)) return;
      throw new EngineError(
        'BAD_WEIGHTS',
        `${this.path}: ${what}: needed ${neededBytes} B at offset ${offset}, the file ends after ${start + foundBytes} B; it is truncated, make it again`,
        { path: this.path, what, offset, neededBytes, foundBytes: start + foundBytes },
      );
    };
    await this.inPieces(into.length, piece, urgent);
  }

  async write(from: Uint8Array, offset: number): Promise<void> {
    await this.inPieces(from.length, async (start, end) => {
      try {
        await this.writePiece(from.subarray(start, end), offset + start);
      } catch (error) {
        throw await writeError(this.path, from.length, error);
      }
    });
  }

  async reserve(bytes: number): Promise<void> {
    const { size, blocks } = fstatSync(this.ordinary);
    // stat counts blocks of 512 B whatever the file system's are.
    await requireDisk(this.path, Math.max(0, bytes - blocks * 512));
    if (bytes > size) await this.truncate(bytes);
  }

  async truncate(bytes: number): Promise<void> {
    try {
      await promisify(ftruncate)(this.ordinary, bytes);
    } catch (error) {
      throw await writeError(this.path, bytes, error);
    }
  }

  async sync(): Promise<void> {
    try {
      await promisify(fsync)(this.ordinary);
    } catch (error) {
      throw await writeError(this.path, 0, error);
    }
  }

  async close(): Promise<void> {
    if (!this.isOpen) return;
    this.isOpen = false;
    await this.slots.idle();
    closeSync(this.ordinary);
    if (this.uncached !== undefined) closeSync(this.uncached);
  }

  private takesSomeAddress(): boolean {
    return this.accepts(viewOf(alignedBuffer(BLOCK_BYTES, this)));
  }

  /** All pieces settle before this does, so that no piece outlives a failure and writes to a buffer in use again. */
  private async inPieces(bytes: number, act: (start: number, end: number) => Promise<void>, urgent = false) {
    if (!this.isOpen) throw new Error(`${this.path} is closed`);
    const pieces: Promise<void>[] = [];
    for (let start = 0; start < bytes; start += this.pieceBytes) {
      const end = Math.min(bytes, start + this.pieceBytes);
      pieces.push(this.slots.run(() => act(start, end), urgent));
    }
    for (const outcome of await Promise.allSettled(pieces)) {
      if (outcome.status === 'rejected') throw outcome.reason;
    }
  }

  /** @returns bytes read: less than the piece holds only where the file ends. */
  private async readPiece(piece: Uint8Array, offset: number, what: string): Promise<number> {
    let filled = 0;
    try {
      while (filled < piece.length) {
        const rest = piece.subarray(filled);
        const bytes = await this.move(rest, offset + filled, readSome);
        if (bytes === 0) break;
        filled += bytes;
      }
    } catch (error) {
      throw readError(this.path, what, error);
    }
    return filled;
  }

  private async writePiece(piece: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < piece.length; ) {
      done += await this.move(piece.subarray(done), offset + done, writeSome);
    }
  }

  private async move(piece: Uint8Array, offset: number, some: Transfer): Promise<number> {
    if (this.uncached !== undefined && offset % BLOCK_BYTES === 0 && piece.length % BLOCK_BYTES === 0) {
      try {
        const bytes = await some(this.uncached, piece, offset);
        this.directBytes += bytes;
        return bytes;
      } catch (error) {
        // The address is not aligned.
        if (reasonOf(error) !== 'EINVAL') throw error;
      }
    }
    const bytes = await some(this.ordinary, piece, offset);
    this.ordinaryBytes += bytes;
    return bytes;
  }
}

type Transfer = (descriptor: number, bytes: Uint8Array, offset: number) => Promise<number>;

const readSome: Transfer = (descriptor, bytes, offset) =>
  new Promise((resolve, reject) => {
    read(descriptor, bytes, 0, bytes.length, offset, (error, count) => (error ? reject(error) : resolve(count)));
  });

const writeSome: Transfer = (descriptor, bytes, offset) =>
  new Promise((resolve, reject) => {
    write(descriptor, bytes, 0, bytes.length, offset, (error, count) => (error ? reject(error) : resolve(count)));
  });
