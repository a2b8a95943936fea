/**
 * LZ4 frames, in which Arrow's default compression stores its buffers. Decoding only.
 *
 * Source: LZ4 Frame Format Description 1.6.4 and LZ4 Block Format Description. Blocks may refer to the bytes of those before
 * them, so all are decoded into one buffer. Checksums are skipped.
 */

const frameMagic = 0x184d2204;
const storedBit = 0x80000000;
/** Of a copy: its length is counted from here. */
const minMatch = 4;

/** @throws RangeError where the bytes are not an LZ4 frame or are damaged. */
export function decodeLz4Frame(frame: Uint8Array): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 7 || view.getUint32(0, true) !== frameMagic) throw new RangeError('not an LZ4 frame');
  const flags = frame[4]!;
  const hasContentSize = (flags & 0x08) !== 0;
  const hasBlockChecksum = (flags & 0x10) !== 0;
  const hasDictionary = (flags & 0x01) !== 0;
  if (hasDictionary) throw new RangeError('an LZ4 frame that needs a dictionary');
  let position = 6 + (hasContentSize ? 8 : 0) + 1;
  const output = new GrowingBytes(hasContentSize ? Number(view.getBigUint64(6, true)) : frame.length * 4);
  for (;;) {
    const header = view.getUint32(position, true);
    position += 4;
    if (header === 0) return output.bytes();
    const size = header & ~storedBit;
    const block = frame.subarray(position, position + size);
    if (block.length < size) throw new RangeError('an LZ4 frame that ends too early');
    if ((header & storedBit) !== 0) output.append(block);
    else decodeBlock(block, output);
    position += size + (hasBlockChecksum ? 4 : 0);
  }
}

/** Sequences of literal bytes and copies of earlier output; the last has no copy. */
function decodeBlock(block: Uint8Array, output: GrowingBytes): void {
  let i = 0;
  const longLength = (length: number) => {
    if (length < 15) return length;
    let total = length;
    for (;;) {
      const more = block[i++];
      if (more === undefined) throw new RangeError('an LZ4 block that ends too early');
      total += more;
      if (more < 255) return total;
    }
  };
  while (i < block.length) {
    const token = block[i++]!;
    const literals = longLength(token >> 4);
    output.append(block.subarray(i, i + literals));
    i += literals;
    if (i >= block.length) return;
    const distance = block[i]! | ((block[i + 1] ?? 0) << 8);
    i += 2;
    output.copy(distance, longLength(token & 15) + minMatch);
  }
}

/** Bytes whose number is not known beforehand. */
class GrowingBytes {
  private buffer: Uint8Array;
  private length = 0;

  constructor(expected: number) {
    this.buffer = new Uint8Array(expected);
  }

  append(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  /** A copy may overlap its own result: a distance of 1 repeats the last byte. */
  copy(distance: number, count: number): void {
    if (distance === 0 || distance > this.length)
      throw new RangeError('an LZ4 block that refers to bytes before its start');
    this.reserve(count);
    for (let i = 0; i < count; i++, this.length++) this.buffer[this.length] = this.buffer[this.length - distance]!;
  }

  bytes(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  private reserve(count: number): void {
    if (this.length + count <= this.buffer.length) return;
    const grown = new Uint8Array(Math.max(this.buffer.length * 2, this.length + count));
    grown.set(this.buffer.subarray(0, this.length));
    this.buffer = grown;
  }
}
