/**
 * What a backend computes. The loops above it decide when, and own the KV cache; a backend holds no sequence.
 *
 * Rows are tokens of any sequences, packed without padding, so that a product never computes a token that nobody asked
 * for. Only attention knows sequences. Arrays are float32 and row-major.
 *
 * A row's result must not depend on the rows beside it: the same request then gives the same bytes in every batch.
 */
import type { ModelConfig } from '../model/config.js';
import type { TensorName } from '../model/layers.js';

/** A layer's tensors in memory, ready for arithmetic. */
export type LayerWeights = Readonly<Partial<Record<TensorName, Float32Array>>>;

/** Tokens of one block of the KV cache. */
export const KV_BLOCK_TOKENS = 64;

/** Keys and values of KV_BLOCK_TOKENS positions of every slot, each (slots, numKvHeads, KV_BLOCK_TOKENS, headDim). */
export interface KvBlock {
  readonly key: Float32Array;
  readonly value: Float32Array;
}

/** What attention reads of a layer: queries beside keys, rotated where the model rotates, and values. */
export interface Projection {
  /** (rows, (numHeads + numKvHeads) * headDim) */
  readonly queryKey: Float32Array;
  /** (rows, numKvHeads * headDim) */
  readonly value: Float32Array;
}

/** What is wanted of the logits of some rows. */
export interface HeadRequest {
  /** (rows, embeddingSize or hiddenSize): the rows whose next token matters. */
  readonly hidden: Float32Array;
  /** How many of the largest logits to return; at least 1. */
  readonly top: number;
  /** (rows, targetsPerRow) token ids whose logits are wanted; entries beyond a row's own targets may be 0. */
  readonly targets?: { readonly ids: Int32Array; readonly perRow: number };
  /** Whether all logits are wanted: costly, for sampling over the whole vocabulary only. */
  readonly all?: boolean;
}

export interface HeadResult {
  /** (rows) log of the sum of exponentials of the logits: logit - this = log-probability. */
  readonly logSumExp: Float32Array;
  /** (rows, top) largest first; among equals the lower id first. */
  readonly topIds: Int32Array;
  readonly topLogits: Float32Array;
  /** (rows, targetsPerRow) */
  readonly targetLogits?: Float32Array;
  /** (rows, vocabSize) */
  readonly logits?: Float32Array;
}

export interface Backend {
  readonly name: string;
  /** Changes whenever the arithmetic does, so that a run never mixes two. */
  readonly numerics: string;

  /** Embeddings of the tokens at their positions: (rows, hiddenSize). */
  embed(weights: LayerWeights, tokens: Int32Array, positions: Int32Array): Promise<Float32Array>;

  /** Norm, queries, keys and values of a decoder layer. */
  project(weights: LayerWeights, hidden: Float32Array, positions: Int32Array): Promise<Projection>;

  /**
   * Attention of one sequence's rows among themselves: row i of the chunk sees the rows that `mask` leaves open.
   * @param queries rows of the chunk, as `Projection.queryKey`
   * @param keys rows seen, as `Projection.queryKey`, and `values` likewise
   * @param mask (chunk rows, key rows), added to the scores: 0 or MASKED
   * @returns (chunk rows, numHeads * headDim)
   */
  attendRows(
    queries: Float32Array,
    keys: Float32Array,
    values: Float32Array,
    mask: Float32Array,
  ): Promise<Float32Array>;

  /**
   * Attention of one new row for each of the first `slots` slots over their cached blocks, the new row's own included.
   * @param queries (slots, ...) as `Projection.queryKey`
   * @param mask (slots, blocks * KV_BLOCK_TOKENS), added to the scores
   * @returns (slots, numHeads * headDim)
   */
  attendCache(
    queries: Float32Array,
    blocks: readonly KvBlock[],
    slots: number,
    mask: Float32Array,
  ): Promise<Float32Array>;

  /** The rest of a decoder layer: output product, residuals, norm and feed-forward: (rows, hiddenSize). */
  finish(weights: LayerWeights, hidden: Float32Array, attended: Float32Array): Promise<Float32Array>;

  head(weights: LayerWeights, request: HeadRequest): Promise<HeadResult>;

  close(): Promise<void>;
}

/** Opens a backend for one model shape. */
export type OpenBackend = (config: ModelConfig, options: { readonly threads: number }) => Promise<Backend>;

/** Added to a score that must not count. Finite, so that a row that sees nothing yields no NaN. */
export const MASKED = -1e30;
