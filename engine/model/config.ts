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

/** Queries and keys turn with their position: dimension i of each head with i + rotaryDim / 2, the rest stays. */
export interface Rotary {
  readonly kind: 'rotary';
  readonly theta: number;
  readonly rotaryDim: number;
  readonly scaling?: RopeScaling;
}

/** How a token learns where it stands. */
export type Positions =
  | Rotary
  /** A learned table, read at position + offset (OPT keeps two rows for padding). */
  | { readonly kind: 'learned'; readonly offset: number };

/** What sets a layer's attention apart from that of other layers. */
export interface LayerAttention {
  /** A row sees at most so many positions, its own included; without it, all before it. */
  readonly window?: number;
  /** In place of the model's. */
  readonly positions?: Rotary;
}

/** What attention does beside the plain softmax of scores. */
export interface Attention {
  /** Multiplies the scores; 1 / sqrt(headDim) unless given. */
  readonly scale?: number;
  /** Scores become softcap * tanh(score / softcap). */
  readonly softcap?: number;
  /** Each head's query and key has a norm of its own before it turns. */
  readonly queryKeyNorm?: boolean;
  /** Of each decoder layer in turn, repeated as often as there are layers. */
  readonly layers?: readonly LayerAttention[];
}

/** A feed-forward network as many small ones, of which each row uses a few. */
export interface Experts {
  readonly count: number;
  readonly perToken: number;
  /** Whether the shares of those that a row uses add up to 1. */
  readonly renormalised: boolean;
  /** Width of a network beside them that every row uses, with a share of its own. */
  readonly sharedSize?: number;
}

/** `gelu` by the error function, `geluTanh` by its approximation. */
export type Activation = 'silu' | 'relu' | 'gelu' | 'geluTanh';

/**
 * How decoding keeps and reads keys and values. Not the model's: chosen when it is opened, and answers depend on it.
 */
export interface KvReading {
  /** Of each key and value in the cache; float32 unless given. */
  readonly bits?: 16 | 8 | 4;
  /** Of the positions that a new token sees, those whose values it reads: the most probable ones (FlexGen §5). */
  readonly share?: number;
}

export interface ModelConfig {
  readonly family: string;
  readonly numLayers: number;
  readonly hiddenSize: number;
  /** Width of the embedding table; differs from hiddenSize only where the family projects in and out (OPT-350m). */
  readonly embeddingSize: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Width of the feed-forward network, or of each expert. */
  readonly ffnSize: number;
  readonly vocabSize: number;
  /** Longest sequence in tokens, prompt and completion together. */
  readonly maxPositions: number;
  /** Before each half of a layer, after its residual sum, or before it and again on its result, before that sum. */
  readonly norm: { readonly kind: 'rms' | 'layer'; readonly eps: number; readonly placement: 'pre' | 'post' | 'both' };
  /** Whether a norm follows the last layer (all but post-norm OPT). */
  readonly finalNorm: boolean;
  /** Whether both halves of a layer read what the layer was given, rather than one the other's result. */
  readonly parallelResidual?: boolean;
  readonly ffn: { readonly kind: 'gated' | 'plain'; readonly activation: Activation };
  readonly experts?: Experts;
  readonly positions: Positions;
  readonly attention?: Attention;
  /** Multiplies embeddings. */
  readonly embeddingScale?: number;
  /** Logits become logitSoftcap * tanh(logit / logitSoftcap). */
  readonly logitSoftcap?: number;
  /** Which products add a bias. */
  readonly bias: { readonly qkv: boolean; readonly output: boolean; readonly ffn: boolean };
  readonly kv?: KvReading;
  /** The head reads the embedding table. */
  readonly tiedEmbeddings: boolean;
  readonly bosTokenId: number | undefined;
  /** Any of these ends a completion. */
  readonly eosTokenIds: readonly number[];
}
