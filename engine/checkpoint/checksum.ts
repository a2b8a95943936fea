/**
 * A checksum for gigabytes: FNV-1a over words of 32 bits, in two lanes.
 *
 * Each step maps states one to one, so a change within one word always shows; any other change goes unseen once in 2^64.
 * On one core it is about four times as fast as SHA-256. It is for damage, not for malice.
 */

/** Even and odd words. */
export type Checksum = readonly [number, number];

export const EMPTY_CHECKSUM: Checksum = [0x811c9dc5 | 0, 0x811c9dc5 | 0];

const PRIME = 0x01000193;

/** @param values an even number of them, following those that `before` is of */
export function checksum({ buffer, byteOffset, length }: Float32Array, before: Checksum): Checksum {
  const words = new Int32Array(buffer, byteOffset, length);
  let [even, odd] = before;
  for (let i = 0; i + 1 < length; i += 2) {
    even = Math.imul(even ^ words[i]!, PRIME);
    odd = Math.imul(odd ^ words[i + 1]!, PRIME);
  }
  return [even, odd];
}
