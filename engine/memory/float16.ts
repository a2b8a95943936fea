/**
 * Arrays of float16 and float32, each from the other.
 *
 * float16 travels as its bits in a Uint16Array, which is also what onnxruntime takes for it.
 */
import { float16 } from '../model/dequantise.js';

/** The largest finite float16. */
export const FLOAT16_MAX = 65504;

/**
 * Rounds to the nearest float16, ties to even; what is beyond FLOAT16_MAX becomes infinite.
 *
 * @param into receives the bits if given, from its start; must hold them.
 */
export function toFloat16(values: Float32Array, into: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) into[i] = float16Bits(bits[i]!);
  return into;
}

/** One float16 from the bits of a float32, rounded likewise. */
export function float16Bits(word: number): number {
  const magnitude = word & 0x7fffffff;
  const half =
    magnitude >= MIN_NORMAL && magnitude < OVERFLOW
      ? (magnitude - EXPONENT_SHIFT + 0xfff + ((magnitude >> 13) & 1)) >> 13
      : roundEdge(magnitude);
  return ((word >>> 16) & 0x8000) | half;
}

/** @param into receives the values if given, from its start; must hold them. */
export function fromFloat16(halves: Uint16Array, into: Float32Array = new Float32Array(halves.length)): Float32Array {
  for (let i = 0; i < halves.length; i++) into[i] = float16[halves[i]!]!;
  return into;
}

/** Bits of a float32: the smallest normal float16, 2^-14. */
const MIN_NORMAL = 0x38800000;
/** The first that rounds to infinity, 65520. */
const OVERFLOW = 0x477ff000;
const INFINITE = 0x7f800000;
/** Difference of the two exponents' biases, 127 - 15, in place. */
const EXPONENT_SHIFT = 112 << 23;

/** Values that are no normal float16: subnormal, too large or not a number. */
function roundEdge(magnitude: number): number {
  if (magnitude > INFINITE) return 0x7e00;
  if (magnitude >= OVERFLOW) return 0x7c00;
  // A subnormal counts units of 2^-24, so the significand moves right by as much as the exponent is too small.
  const shift = 126 - (magnitude >> 23);
  if (shift > 24) return 0;
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const whole = significand >> shift;
  const rest = significand & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (whole & 1) === 1) ? whole + 1 : whole;
}
