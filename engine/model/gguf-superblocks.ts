/**
 * Superblocks of 256 values: sub-blocks of 16 or 32 values with small scales, which share one float16 scale.
 *
 * Layouts: the first line of each, in the order of the bytes.
 */
import type { Dequantise } from './dequantise.js';
import { float16, nonLinear4 } from './dequantise.js';

/** 16 bytes of scale and minimum (4 bits each); 64 bytes of codes; float16 scale and minimum of the scales. */
export const dequantiseQ2K: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 84, to += 256) {
    const scale = float16[source[at + 80]! | (source[at + 81]! << 8)]!;
    const min = float16[source[at + 82]! | (source[at + 83]! << 8)]!;
    for (let part = 0; part < 16; part++) {
      const packed = source[at + part]!;
      const partScale = scale * (packed & 15);
      const partMin = min * (packed >> 4);
      const codes = at + 16 + ((part >> 3) << 5) + ((part & 1) << 4);
      const shift = part & 6;
      const out = to + (part << 4);
      for (let j = 0; j < 16; j++) target[out + j] = partScale * ((source[codes + j]! >> shift) & 3) - partMin;
    }
  }
};

/** 32 bytes with the third bit of each code; 64 bytes with the others; 12 bytes of 6-bit scales; float16 scale. */
export const dequantiseQ3K: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 110, to += 256) {
    const scale = float16[source[at + 108]! | (source[at + 109]! << 8)]!;
    for (let part = 0; part < 16; part++) {
      const low = source[at + 96 + (part & 7)]! >> (part < 8 ? 0 : 4);
      const high = source[at + 104 + (part & 3)]! >> (2 * (part >> 2));
      const partScale = scale * (((low & 15) | ((high & 3) << 4)) - 32);
      const lane = (part & 1) << 4;
      const codes = at + 32 + ((part >> 3) << 5) + lane;
      const shift = part & 6;
      const thirdBit = part >> 1;
      const out = to + (part << 4);
      for (let j = 0; j < 16; j++) {
        const third = (source[at + lane + j]! >> thirdBit) & 1;
        target[out + j] = partScale * (((source[codes + j]! >> shift) & 3) + 4 * third - 4);
      }
    }
  }
};

/** float16 scale and minimum of the scales; 12 bytes of 6-bit scales and minima; 128 bytes of codes. */
export const dequantiseQ4K: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 144, to += 256) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    const min = float16[source[at + 2]! | (source[at + 3]! << 8)]!;
    for (let part = 0; part < 8; part++) {
      const partScale = scale * sixBitScale(source, at + 4, part);
      const partMin = min * sixBitMin(source, at + 4, part);
      const codes = at + 16 + ((part >> 1) << 5);
      const shift = (part & 1) << 2;
      const out = to + (part << 5);
      for (let j = 0; j < 32; j++) target[out + j] = partScale * ((source[codes + j]! >> shift) & 15) - partMin;
    }
  }
};

/** As Q4_K, with 32 bytes of fifth bits before the codes. */
export const dequantiseQ5K: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 176, to += 256) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    const min = float16[source[at + 2]! | (source[at + 3]! << 8)]!;
    for (let part = 0; part < 8; part++) {
      const partScale = scale * sixBitScale(source, at + 4, part);
      const partMin = min * sixBitMin(source, at + 4, part);
      const codes = at + 48 + ((part >> 1) << 5);
      const shift = (part & 1) << 2;
      const out = to + (part << 5);
      for (let j = 0; j < 32; j++) {
        const fifth = (source[at + 16 + j]! >> part) & 1;
        target[out + j] = partScale * (((source[codes + j]! >> shift) & 15) + 16 * fifth) - partMin;
      }
    }
  }
};

/** 128 bytes with the low four bits of each code; 64 with the high two; 16 signed scales; float16 scale. */
export const dequantiseQ6K: Dequantise = (source, at, target, to, blocks) => {
  const signed = new Int8Array(source.buffer, source.byteOffset, source.length);
  for (let block = 0; block < blocks; block++, at += 210, to += 256) {
    const scale = float16[source[at + 208]! | (source[at + 209]! << 8)]!;
    for (let part = 0; part < 16; part++) {
      const partScale = scale * signed[at + 192 + part]!;
      const half = part >> 3;
      const row = (part & 7) >> 1;
      const lane = (part & 1) << 4;
      const low = at + (half << 6) + ((row & 1) << 5) + lane;
      const lowShift = (row >> 1) << 2;
      const high = at + 128 + (half << 5) + lane;
      const highShift = row << 1;
      const out = to + (part << 4);
      for (let j = 0; j < 16; j++) {
        const code = ((source[low + j]! >> lowShift) & 15) | (((source[high + j]! >> highShift) & 3) << 4);
        target[out + j] = partScale * (code - 32);
      }
    }
  }
};

/** float16 scale; 2 bytes with the high two bits of eight scales; 4 with the low four; 128 bytes of codes. */
export const dequantiseIq4Xs: Dequantise = (source, at, target, to, blocks) => {
  for (let block = 0; block < blocks; block++, at += 136, to += 256) {
    const scale = float16[source[at]! | (source[at + 1]! << 8)]!;
    const highs = source[at + 2]! | (source[at + 3]! << 8);
    for (let part = 0; part < 8; part++) {
      const low = (source[at + 4 + (part >> 1)]! >> ((part & 1) << 2)) & 15;
      const partScale = scale * ((low | (((highs >> (2 * part)) & 3) << 4)) - 32);
      const codes = at + 8 + (part << 4);
      const out = to + (part << 5);
      for (let j = 0; j < 16; j++) {
        const pair = source[codes + j]!;
        target[out + j] = nonLinear4[pair & 15]! * partScale;
        target[out + j + 16] = nonLinear4[pair >> 4]! * partScale;
      }
    }
  }
};

/** Eight scales, then eight minima, of six bits: the low ones of the first four whole, the others split over two bytes. */
function sixBitScale(source: Uint8Array, at: number, part: number): number {
  if (part < 4) return source[at + part]! & 63;
  return (source[at + part + 4]! & 15) | ((source[at + part - 4]! >> 6) << 4);
}

function sixBitMin(source: Uint8Array, at: number, part: number): number {
  if (part < 4) return source[at + part + 4]! & 63;
  return (source[at + part + 4]! >> 4) | ((source[at + part]! >> 6) << 4);
}
