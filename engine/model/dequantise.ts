/** What every block format shares: the shape of its function, and the tables that several read. */

/**
 * Writes the values of `blocks` blocks of `source`, from byte `at`, to `target`, from element `to`.
 *
 * Loops run over plain indices, without a call or an object per block: this is where a quantised model's start-up goes.
 */
export type Dequantise = (source: Uint8Array, at: number, target: Float32Array, to: number, blocks: number) => void;

/** Every float16 as a float32, by its bits. */
export const float16: Float32Array = float16Table();

/** The sixteen values of a non-linear 4-bit code. */
export const nonLinear4 = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

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
