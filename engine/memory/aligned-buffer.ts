/**
 * Buffers and byte ranges as O_DIRECT wants them: whole blocks of a file, at an aligned address.
 *
 * JavaScript does not know where an ArrayBuffer lies, so the first aligned byte in it is found by trying: a read to a
 * wrong address fails at once. The bytes stay where they are, also when the buffer is transferred to another thread.
 */

/** A multiple of every alignment that disks and file systems ask for. */
export const BLOCK_BYTES = 4096;

export interface AlignedBuffer {
  readonly buffer: ArrayBuffer;
  /** Where the aligned part begins. */
  readonly byteOffset: number;
  /** Of the aligned part: what was asked for, in whole blocks. */
  readonly bytes: number;
}

/** What an address is tried on; a `DirectFile` is one. */
export interface AlignmentProbe {
  /** False where addresses do not matter. */
  readonly direct: boolean;
  /** Whether BLOCK_BYTES can be read to here; overwrites them. */
  accepts(block: Uint8Array): boolean;
}

/** The whole blocks around a range of a file. */
export interface AlignedRange {
  readonly start: number;
  readonly length: number;
  /** Bytes of the blocks before the range. */
  readonly skip: number;
}

export function alignUp(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}

export function alignedRange(offset: number, bytes: number): AlignedRange {
  const start = Math.floor(offset / BLOCK_BYTES) * BLOCK_BYTES;
  return { start, length: alignUp(offset + bytes) - start, skip: offset - start };
}

/** Zeros in whole blocks, at an address that `probe` accepts; at any where it accepts none or does not care. */
export function alignedBuffer(bytes: number, probe: AlignmentProbe): AlignedBuffer {
  const wholeBytes = Math.max(BLOCK_BYTES, alignUp(bytes));
  if (!probe.direct) return { buffer: new ArrayBuffer(wholeBytes), byteOffset: 0, bytes: wholeBytes };
  const buffer = new ArrayBuffer(wholeBytes + BLOCK_BYTES);
  const byteOffset = findAligned(buffer, probe) ?? 0;
  new Uint8Array(buffer, byteOffset, BLOCK_BYTES).fill(0);
  return { buffer, byteOffset, bytes: wholeBytes };
}

export function viewOf({ buffer, byteOffset, bytes }: AlignedBuffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(buffer, byteOffset, bytes);
}

/** Allocators align to 16 bytes at least. */
const STEP_BYTES = 16;

function findAligned(buffer: ArrayBuffer, probe: AlignmentProbe): number | undefined {
  for (let byteOffset = 0; byteOffset < BLOCK_BYTES; byteOffset += STEP_BYTES) {
    if (probe.accepts(new Uint8Array(buffer, byteOffset, BLOCK_BYTES))) return byteOffset;
  }
  return undefined;
}
