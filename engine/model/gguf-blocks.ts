/**
 * The block formats that can be read, by the names GGUF gives them. Plain F32, F16 and BF16 are blocks of one value.
 *
 * Source: ggml's block layouts (ggml-common.h, ggml-quants.c); the values are equal to its own bit by bit. Products of a
 * float16 scale and small integers are exact in a double, so the one rounding is that of storing a float32, as in ggml.
 */
import type { Dequantise } from './dequantise.js';
import * as small from './gguf-small-blocks.js';
import * as superblocks from './gguf-superblocks.js';

export interface BlockFormat {
  /** The number GGUF files use for it. */
  readonly ggmlType: number;
  readonly valuesPerBlock: number;
  readonly bytesPerBlock: number;
  readonly dequantise: Dequantise;
}

export const blockFormats: ReadonlyMap<string, BlockFormat> = new Map([
  ['F32', { ggmlType: 0, valuesPerBlock: 1, bytesPerBlock: 4, dequantise: small.dequantiseF32 }],
  ['F16', { ggmlType: 1, valuesPerBlock: 1, bytesPerBlock: 2, dequantise: small.dequantiseF16 }],
  ['BF16', { ggmlType: 30, valuesPerBlock: 1, bytesPerBlock: 2, dequantise: small.dequantiseBf16 }],
  ['Q4_0', { ggmlType: 2, valuesPerBlock: 32, bytesPerBlock: 18, dequantise: small.dequantiseQ4_0 }],
  ['Q4_1', { ggmlType: 3, valuesPerBlock: 32, bytesPerBlock: 20, dequantise: small.dequantiseQ4_1 }],
  ['Q5_0', { ggmlType: 6, valuesPerBlock: 32, bytesPerBlock: 22, dequantise: small.dequantiseQ5_0 }],
  ['Q5_1', { ggmlType: 7, valuesPerBlock: 32, bytesPerBlock: 24, dequantise: small.dequantiseQ5_1 }],
  ['Q8_0', { ggmlType: 8, valuesPerBlock: 32, bytesPerBlock: 34, dequantise: small.dequantiseQ8_0 }],
  ['IQ4_NL', { ggmlType: 20, valuesPerBlock: 32, bytesPerBlock: 18, dequantise: small.dequantiseIq4Nl }],
  ['MXFP4', { ggmlType: 39, valuesPerBlock: 32, bytesPerBlock: 17, dequantise: small.dequantiseMxfp4 }],
  ['Q2_K', { ggmlType: 10, valuesPerBlock: 256, bytesPerBlock: 84, dequantise: superblocks.dequantiseQ2K }],
  ['Q3_K', { ggmlType: 11, valuesPerBlock: 256, bytesPerBlock: 110, dequantise: superblocks.dequantiseQ3K }],
  ['Q4_K', { ggmlType: 12, valuesPerBlock: 256, bytesPerBlock: 144, dequantise: superblocks.dequantiseQ4K }],
  ['Q5_K', { ggmlType: 13, valuesPerBlock: 256, bytesPerBlock: 176, dequantise: superblocks.dequantiseQ5K }],
  ['Q6_K', { ggmlType: 14, valuesPerBlock: 256, bytesPerBlock: 210, dequantise: superblocks.dequantiseQ6K }],
  ['IQ4_XS', { ggmlType: 23, valuesPerBlock: 256, bytesPerBlock: 136, dequantise: superblocks.dequantiseIq4Xs }],
]);
