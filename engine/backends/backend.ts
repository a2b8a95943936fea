/**
 * What a backend computes. The loops above it decide when, and own the KV cache; a backend holds no sequence.
 *
 * Rows are tokens of any sequences, packed without padding, so that a product never computes a token that nobody asked
 * for. Only attention knows sequences. Arrays are float32 and row-major.
 *
 * A row's result must not depend on the rows beside it: the same request then gives the same bytes in every batch.
 */

import type { PackedMatrix } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';
import type { TensorName } from '../model/layers.js';

/** A layer's tensors, each whole and in memory. */
export type LayerWeights = Readonly<Partial<Record<TensorName, PackedMatrix>>>;

/** Norms of each head's query and key, where the model has them. */
export type HeadNorms = Pick<LayerWeights, 'queryNorm' | 'keyNorm'>;

/** Tokens of one block of the KV cache. */
export const KV_BLOCK_TOKENS = 32;

/**
 * Keys and values of KV_BLOCK_TOKENS positions of every slot, each (slots, numKvHeads, KV_BLOCK_TOKENS, headDim) in the form
 * that the model is opened with (`memory/kv-form.ts`).
 */
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

/** What is wanted of the logits of some rows, over some rows of the vocabulary. */
export interface HeadRequest {
  /** (rows, embeddingSize): normed and projected. */
  readonly input: Float32Array;
  /** How many of the largest logits to return; at least 1, at most the part's rows. */
  readonly top: number;
  /** (rows, targetsPerRow) ids within the part whose logits are wanted. */
  readonly targets?: Targets;
  /** Whether all logits are wanted: costly, for sampling over the whole vocabulary only. */
  readonly all?: boolean;
}

export interface Targets {
  /** (rows, perRow) */
  readonly ids: Int32Array;
  readonly perRow: number;
}

export interface HeadResult {
  /** (rows) log of the sum of exponentials of the logits: logit - this = log-probability. */
  readonly logSumExp: Float32Array;
  /** (rows, top) largest first; among equals the lower id first. */
  readonly topIds: Int32Array;
  readonly topLogits: Float32Array;
  /** (rows, targetsPerRow) */
  readonly targetLogits?: Float32Array;
  /** (rows, part's rows) */
  readonly logits?: Float32Array;
}

/** Gate and up product of a feed-forward, row by row the same; without a gate for the plain form. */
export interface FeedParts {
  readonly gate?: PackedMatrix;
  readonly gateBias?: Float32Array;
  readonly up: PackedMatrix;
  readonly upBias?: Float32Array;
}

/** Where a product goes: columns [first, first + its own) of (rows, width). */
export interface Columns {
  readonly rows: Float32Array;
  readonly width: number;
  readonly first: number;
}

/** A decoder layer that a backend holds. Its results are overwritten by the next call of the same method of any layer. */
export interface KeptLayer {
  /** Norm, queries, keys and values. */
  project(hidden: Float32Array, positions: Int32Array): Promise<Projection>;
  /**
   * The rest of the layer: output product, residuals, norm and feed-forward.
   * @param attended (rows, numHeads * headDim)
   * @returns (rows, hiddenSize)
   */
  finish(hidden: Float32Array, attended: Float32Array): Promise<Float32Array>;
}

export interface Backend {
  readonly name: string;
  /** Whether attention over common blocks is one product for all slots, with the same bytes as one for each. */
  readonly sharesBlocks: boolean;
  /** Changes whenever the arithmetic does, so that a run never mixes two. */
  readonly numerics: string;

  /**
   * Takes over a decoder layer without experts, whose weights are whole and stay.
   * @param layer of the decoder, from 0
   * @param weights may be dropped once they are taken over
   */
  keep(layer: number, weights: LayerWeights): Promise<KeptLayer>;

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
   * @param common so many blocks, the first, are the same in all slots: one copy may be read for all
   * @returns (slots, numHeads * headDim)
   */
  attendCache(
    queries: Float32Array,
    blocks: readonly KvBlock[],
    slots: number,
    mask: Float32Array,
    common?: number,
  ): Promise<Float32Array>;

  // A layer in pieces, for weights that stream by in parts of a few rows.

  /** RMSNorm, or LayerNorm where there is a bias, of rows of hiddenSize. */
  norm(hidden: Float32Array, weight: Float32Array, bias?: Float32Array): Promise<Float32Array>;

  /**
   * input (rows, in) times the part (out, in), transposed, plus bias (out).
   * @param into receives it
   * @returns (rows, out), or what `into` holds
   */
  multiply(input: Float32Array, part: PackedMatrix, bias?: Float32Array, into?: Columns): Promise<Float32Array>;

  /**
   * Splits joined queries, keys and values; norms each head and rotates it where the model does. The results are overwritten by
   * the next call.
   */
  rotate(layer: number, norms: HeadNorms, joined: Float32Array, positions: Int32Array): Promise<Projection>;

  /**
   * activation(input gateᵀ + bias) * (input upᵀ + bias), or activation(input upᵀ + bias).
   * @param into receives it
   * @returns (rows, part's rows), or what `into` holds
   */
  feed(input: Float32Array, parts: FeedParts, into?: Columns): Promise<Float32Array>;

  /** Logits over the part's rows of the vocabulary. */
  head(part: PackedMatrix, request: HeadRequest): Promise<HeadResult>;

  close(): Promise<void>;
}

export type ComputeBits = 32 | 8;

export interface BackendOptions {
  readonly threads: number;
  /** Of the products of kept layers: float32, or integers of 8 bits with a scale for each row. Default 32. */
  readonly computeBits?: ComputeBits | undefined;
}

/**
 * Opens a backend for one model shape.
 *
 * @throws UNSUPPORTED if it, or the processor, cannot multiply in so many bits
 */
export type OpenBackend = (config: ModelConfig, options: BackendOptions) => Promise<Backend>;

/** Added to a score that must not count. Finite, so that a row that sees nothing yields no NaN. */
export const MASKED = -1e30;
