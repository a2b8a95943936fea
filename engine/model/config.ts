/**
 * The shape of a model: everything that decides what is computed, and nothing about where or when.
 *
 * A family is a declaration over these fields; the layers read the declaration and know no family by name.
 */

/** Rotary frequency scaling, as `rope_scaling` of Hugging Face configurations names it. */
export type RopeScaling =
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositions: number;
    }
  /** Frequencies divided one by one; GGUF files carry Llama 3's scaling so, in `rope_freqs.weight`. */
  | { readonly kind: 'factors'; readonly factors: readonly number[] };

/** How a token learns where it stands. Rotary turns dimension i with i + rotaryDim / 2. */
export type Positions =
  | { readonly kind: 'rotary'; readonly theta: number; readonly rotaryDim: number; readonly scaling?: RopeScaling }
  /** A learned table, read at position + offset (OPT keeps two rows for padding). */
  | { readonly kind: 'learned'; readonly offset: number };

export interface ModelConfig {
  readonly family: string;
  readonly numLayers: number;
  readonly hiddenSize: number;
  /** Width of the embedding table; differs from hiddenSize only where the family projects in and out (OPT-350m). */
  readonly embeddingSize: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly ffnSize: number;
  readonly vocabSize: number;
  /** Longest sequence in tokens, prompt and completion together. */
  readonly maxPositions: number;
  readonly norm: { readonly kind: 'rms' | 'layer'; readonly eps: number; readonly placement: 'pre' | 'post' };
  /** Whether a norm follows the last layer (all but post-norm OPT). */
  readonly finalNorm: boolean;
  readonly ffn: { readonly kind: 'gated' | 'plain'; readonly activation: 'silu' | 'relu' };
  readonly positions: Positions;
  /** Which products add a bias. */
  readonly bias: { readonly qkv: boolean; readonly output: boolean; readonly ffn: boolean };
  /** The head reads the embedding table. */
  readonly tiedEmbeddings: boolean;
  readonly bosTokenId: number | undefined;
  /** Any of these ends a completion. */
  readonly eosTokenIds: readonly number[];
}
