/** Blocks of one value (F32, F16, BF16) and of 32 values that share a scale. Layouts: the first line of each. */
import type { Dequantise } from './dequantise.js';
import { float16, nonLinear4 } from './dequantise.js';

export const dequantiseF32: Dequantise = (source, at, target, to, blocks) => {
  const bytes = new Uint8Array(target.buffer, target.byteOffset + to * 4, blocks * 4);
  bytes.set(source.subarray(at, at + blocks * 4));
};

export const dequantiseF16: Dequantise = (source, at, target, to, blocks) => {
  for (let i = 0; i < blocks; i++) {
    target[to + i] = float16[source[at + 2 * i]! | (source[at + 2 * i + 1]! << 8)]!;
  }
};

/** The upper half of a float32. */
export const dequantiseBf16: Dequantise = (source, at, target, to, blocks) => {
  const bits = new Uint32Array(target.buffer, target.byteOffset + to * 4, blocks);
  for (let i = 0; i < blocks; i++) {
    bits[i] = (source[at + 2 * i]! << 16) | (source[at + 2 * i + 1]! << 24);
  }
};

/** float16 scale; 16 bytes, value j in the low half of byte j, value j + 16 in its high half. */
export const dequantiseQ4_0: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 18, to += 32) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    for (let j = 0; j < 16; j++) {
      const codes = source[at + 2 + j]!;
      target[to + j] = ((codes & 15) - 8) * scale;
      target[to + j + 16] = ((codes >> 4) - 8) * scale;
    }
  }
};

/** float16 scale and minimum; codes as in Q4_0. */
export const dequantiseQ4_1: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 20, to += 32) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    const min = float16[source[at + 2]! | (source[at + 3]! << 8)]!;
    for (let j = 0; j < 16; j++) {
      const codes = source[at + 4 + j]!;
      target[to + j] = (codes & 15) * scale + min;
      target[to + j + 16] = (codes >> 4) * scale + min;
    }
  }
};

/** float16 scale; 32 bits, the fifth of each code; codes as in Q4_0. */
export const dequantiseQ5_0: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 22, to += 32) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    const fifths = source[at + 2]! | (source[at + 3]! << 8) | (source[at + 4]! << 16) | (source[at + 5]! << 24);
    for (let j = 0; j < 16; j++) {
      const codes = source[at + 6 + j]!;
      target[to + j] = (((codes & 15) | (((fifths >>> j) & 1) << 4)) - 16) * scale;
      target[to + j + 16] = (((codes >> 4) | (((fifths >>> (j + 16)) & 1) << 4)) - 16) * scale;
    }
  }
};

/** float16 scale and minimum; then as in Q5_0. */
export const dequantiseQ5_1: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 24, to += 32) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    const min = float16[source[at + 2]! | (source[at + 3]! << 8)]!;
    const fifths = source[at + 4]! | (source[at + 5]! << 8) | (source[at + 6]! << 16) | (source[at + 7]! << 24);
    for (let j = 0; j < 16; j++) {
      const codes = source[at + 8 + j]!;
      target[to + j] = ((codes & 15) | (((fifths >>> j) & 1) << 4)) * scale + min;
      target[to + j + 16] = ((codes >> 4) | (((fifths >>> (j + 16)) & 1) << 4)) * scale + min;
    }
  }
};

/** float16 scale; 32 signed bytes. */
export const dequantiseQ8_0: Dequantise = (source, at, target, to, blocks) => {
  const signed = new Int8Array(source.buffer, source.byteOffset, source.length);
  for (let block = 0; block < blocks; block++, at += 34, to += 32) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    for (let j = 0; j < 32; j++) target[to + j] = signed[at + 2 + j]! * scale;
  }
};

/** As Q4_0, each code the number of a value in a table. */
export const dequantiseIq4Nl: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 18, to += 32) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    for (let j = 0; j < 16; j++) {
      const codes = source[at + 2 + j]!;
      target[to + j] = nonLinear4[codes & 15]! * scale;
      target[to + j + 16] = nonLinear4[codes >> 4]! * scale;
    }
  }
};

/** Twice the value of each 4-bit float (one sign, two exponent and one fraction bit). */
const float4Doubled = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

/** A power of two as its exponent's byte; codes as in Q4_0. */
export const dequantiseMxfp4: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 17, to += 32) {
    const halfScale = 2 ** (source[at]! - 128);
    for (let j = 0; j < 16; j++) {
      const codes = source[at + 1 + j]!;
      target[to + j] = float4Doubled[codes & 15]! * halfScale;
      target[to + j + 16] = float4Doubled[codes >> 4]! * halfScale;
    }
  }
};
