/**
 * Weights by the engine's own names, whatever file they lie in.
 *
 * Names: `embed.tokens`, `embed.positions`, `embed.project`; per layer i `layers.i.` + `attentionNorm`, `query`, `key`,
 * `value`, `queryNorm`, `keyNorm`, `output`, `attentionOutNorm`, `ffnNorm`, `gate`, `up`, `down`, `router`, `shared`,
 * `experts.e.` + `gate`, `up`, `down`, `ffnOutNorm`; `final.norm`, `head.project`, `head.tokens` (absent when tied);
 * each followed by `.weight` or `.bias`. Matrices are (out, in), rotary rows in Hugging Face's order (halves); a norm multiplies
 * by its weight, whatever a file leaves out of it.
 */
import type { ModelConfig } from './config.js';

export interface WeightSource {
  readonly config: ModelConfig;
  /** SHA-256, in hex, that changes when any byte that can change an answer does. */
  readonly identity: string;
  /** Names present, in layer order. */
  readonly names: readonly string[];
  /** (out, in) or (size); throws BAD_WEIGHTS, naming the tensor, if it is absent. */
  shape(name: string): readonly number[];
  /** The type as the file names it: F32, BF16, Q4_K, ... */
  storedType(name: string): string;
  /**
   * Rows [rowStart, rowEnd) of a matrix, or elements of a vector, dequantised to float32. Reads only their bytes.
   * @param into receives the values if given, from its start; must hold them.
   */
  read(name: string, rowStart?: number, rowEnd?: number, into?: Float32Array): Promise<Float32Array>;
  close(): Promise<void>;
}
