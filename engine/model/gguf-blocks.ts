/**
 * Blocks of packed values, as GGUF files hold them, to float32. Plain F32, F16 and BF16 are blocks of one value.
 *
 * Source: ggml's block layouts; equal to its own results bit by bit. Products of float16 scales and small integers are
 * exact in a double, so the one rounding is that of storing a float32, as in ggml's float32 arithmetic.
 */

/** Writes `blocks` blocks of `source`, from byte `sourceStart`, to `target`, from element `targetStart`. */
export type Dequantise = (
  source: Uint8Array,
  sourceStart: number,
  target: Float32Array,
  targetStart: number,
  blocks: number,
) => void;

export interface BlockFormat {
  readonly valuesPerBlock: number;
  readonly bytesPerBlock: number;
  readonly dequantise: Dequantise;
}

/** The formats that can be read, by name. */
export const blockFormats: ReadonlyMap<string, BlockFormat> = new Map([
  ['F32', { valuesPerBlock: 1, bytesPerBlock: 4, dequantise: dequantiseF32 }],
  ['F16', { valuesPerBlock: 1, bytesPerBlock: 2, dequantise: dequantiseF16 }],
  ['BF16', { valuesPerBlock: 1, bytesPerBlock: 2, dequantise: dequantiseBf16 }],
]);

/** Every float16 as a float32, by its bits. */
const float16 = float16Table();

function dequantiseF32(
  source: Uint8Array,
  sourceStart: number,
  target: Float32Array,
  targetStart: number,
  blocks: number,
): void {
  const bytes = new Uint8Array(target.buffer, target.byteOffset + targetStart * 4, blocks * 4);
  bytes.set(source.subarray(sourceStart, sourceStart + blocks * 4));
}

function dequantiseF16(
  source: Uint8Array,
  sourceStart: number,
  target: Float32Array,
  targetStart: number,
  blocks: number,
): void {
  for (let i = 0, at = sourceStart; i < blocks; i++, at += 2) {
    target[targetStart + i] = float16[source[at]! | (source[at + 1]! << 8)]!;
  }
}

function dequantiseBf16(
  source: Uint8Array,
  sourceStart: number,
  target: Float32Array,
  targetStart: number,
  blocks: number,
): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset + targetStart * 4, blocks);
  for (let i = 0, at = sourceStart; i < blocks; i++, at += 2) {
    bits[i] = (source[at]! << 16) | (source[at + 1]! << 24);
  }
}

function float16Table(): Float32Array {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) table[bits] = fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    else if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else table[bits] = sign * (1024 + fraction) * 2 ** (exponent - 25);
  }
  return table;
}
