/** What both layouts of groups share: groups side by side (quantize-columns) and groups one after another (quantize-lines). */
import { FLOAT16_MAX } from './float16.js';

/** Values that share a scale and a minimum. FlexGen's choice. */
export const GROUP_SIZE = 64;

export type QuantizedBits = 4 | 8;

export interface QuantizedArrays {
  readonly bits: QuantizedBits;
  /**
   * Codes, shaped as the values but for the grouped dimension, which is padded to whole groups; with 4 bits it is halved:
   * elements 2m and 2m + 1 share a byte, the former in its high half.
   */
  readonly data: Uint8Array;
  /** float16 bits, shaped as the values but for the grouped dimension, which counts groups. */
  readonly scale: Uint16Array;
  readonly min: Uint16Array;
}

/** Elements [start, end) of the grouped dimension, each of them `inner` values wide. */
export interface GroupRun {
  /** The group that holds element 0, counted over the whole array. */
  readonly group: number;
  readonly inner: number;
  readonly start: number;
  readonly end: number;
}

/** Kept within float16, so that no stored number is infinite or zero. */
export function scaleOf(levels: number, min: number, max: number): number {
  const scale = levels / Math.fround(max - min);
  return Math.min(FLOAT16_MAX, Math.max(FLOAT16_MIN, scale));
}

export function clampToFloat16(value: number): number {
  return Math.min(FLOAT16_MAX, Math.max(-FLOAT16_MAX, value));
}

/** In float32 as in FlexGen; ties to even. */
export function codeOf(value: number, min: number, scale: number, levels: number): number {
  const scaled = Math.fround(Math.fround(value - min) * scale);
  const code = scaled + ROUNDER - ROUNDER;
  return Math.min(levels, Math.max(0, code));
}

/** Smallest float16 above zero. */
export const FLOAT16_MIN = 2 ** -24;

/** Adding and taking away 1.5 · 2^52 rounds a double to a whole number, ties to even. */
const ROUNDER = 6755399441055744;
