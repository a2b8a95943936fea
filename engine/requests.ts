/**
 * What the engine is asked and what it answers.
 *
 * Log-probabilities are natural, over the full vocabulary, before temperature, top-k and top-p.
 */

import type { ComputeBits } from './backends/backend.js';
import type { CheckpointOptions, CheckpointStatus } from './checkpoint.js';
import type { TierName } from './memory/tier.js';
import type { ModelConfig } from './model/config.js';
import type { Planning } from './policy/planned.js';
import type { KvBits, Policy, ScheduleName, WeightBits } from './policy/policy.js';
import type { TraceTotals } from './trace.js';

/** Text is encoded by the model's own tokenizer; ids are taken as they are, and need none. */
export type Prompt = string | readonly number[];

export interface Sampling {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Keep the k most probable tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of tokens whose probabilities reach this; 1 keeps all. */
  readonly topP: number;
  /** Each request has a random state of its own, so its tokens do not depend on its neighbours. */
  readonly seed: number;
}

export interface GenerateRequest {
  readonly kind: 'generate';
  readonly id: string;
  readonly prompt: Prompt;
  readonly maxNewTokens: number;
  /** The completion ends before the first of these, even where one spans tokens. */
  readonly stop: readonly string[];
  readonly sampling: Sampling;
  readonly ignoreEos?: boolean;
  /** How many of the most probable tokens to report at each step. */
  readonly topLogprobs?: number;
  readonly promptLogprobs?: boolean;
}

/** Log-likelihood of each option as the continuation of the context, which is computed once. */
export interface ScoreRequest {
  readonly kind: 'score';
  readonly id: string;
  readonly context: Prompt;
  readonly options: readonly Prompt[];
}

export type EngineRequest = GenerateRequest | ScoreRequest;

export type FinishReason = 'stop' | 'length' | 'error';

export interface GenerateResult {
  readonly kind: 'generate';
  readonly id: string;
  /** Without special tokens, cut before the stop string. Empty where the model has no tokenizer. */
  readonly text: string;
  /** Generated ids, the ending EOS included. */
  readonly tokens: readonly number[];
  readonly finishReason: FinishReason;
  readonly promptTokens: number;
  /** One for each of `tokens`. */
  readonly logprobs: readonly number[];
  readonly topLogprobs?: readonly (readonly (readonly [id: number, logprob: number])[])[];
  /** One for each prompt token given those before it; null for the first. */
  readonly promptLogprobs?: readonly (number | null)[];
  /** Why, where finishReason is error: what was found and what to change. */
  readonly error?: string;
}

export interface OptionScore {
  readonly logprob: number;
  readonly tokens: number;
  /** Whether greedy decoding from the context would have produced the option. */
  readonly isGreedy: boolean;
}

export interface ScoreResult {
  readonly kind: 'score';
  readonly id: string;
  readonly promptTokens: number;
  /** In the order of the request; empty where there is an error. */
  readonly options: readonly OptionScore[];
  readonly error?: string;
}

export type EngineResult = GenerateResult | ScoreResult;

/** Where a call of `run` stands. Tokens are those computed in this call; answers that a checkpoint held are finished. */
export interface EngineProgress {
  readonly finished: number;
  readonly total: number;
  /** Prompt tokens computed so far (scored options included). */
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Sequences being computed now. */
  readonly live: number;
  /** Where the run keeps checkpoints. */
  readonly checkpoint?: CheckpointStatus;
}

export interface RunOptions {
  /** Aborting makes `run` reject with CANCELLED at the end of the sweep. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: EngineProgress) => void;
  /** Where what is computed is kept, and what an earlier call with the same requests kept is taken up. */
  readonly checkpoint?: CheckpointOptions;
}

/** What is known of the model once it is open. */
export interface EngineInfo {
  readonly config: ModelConfig;
  readonly identity: string;
  readonly backend: string;
  /** Changes when the arithmetic of the engine does: part of every run's fingerprint. */
  readonly numerics: string;
  readonly hasTokenizer: boolean;
  readonly policy: Policy;
}

/** What the engine used since it was opened. */
export interface EngineUsage extends TraceTotals {
  readonly peakBytes: Readonly<Record<TierName, number>>;
  /** Held now: what belongs to the model, and between runs nothing else. */
  readonly usedBytes: Readonly<Record<TierName, number>>;
  /** In Chrome's trace event format, where the options asked for a timeline. */
  readonly timeline?: string;
}

export interface Engine {
  readonly info: EngineInfo;
  /** Results in the order of the requests. A request that cannot be computed yields a result with `error`. */
  run(requests: readonly EngineRequest[], options?: RunOptions): Promise<EngineResult[]>;
  usage(): Promise<EngineUsage>;
  close(): Promise<void>;
}

/** Opens one engine: on the calling thread (`engine.ts`) or on a thread of its own (`host.ts`), alike. */
export interface EngineOptions {
  /** A GGUF file or a Hugging Face model directory. */
  readonly model: string;
  readonly backend: 'onnx' | 'reference';
  /** `sim` accounts and moves as a gpu would, in ordinary memory: for trying policies, not for speed. Default: cpu. */
  readonly device?: 'cpu' | 'sim';
  /** Threads of the matrix products; default: the physical cores. */
  readonly threads?: number;
  /** At most so many sequences are computed together; fewer where the budget holds fewer. */
  readonly gpuBatchSize?: number;
  /** GPU batches that share one read of each layer's weights. */
  readonly numGpuBatches?: number;
  /** Default: continuous. */
  readonly schedule?: ScheduleName;
  /** False computes and reads in turn: slow, and equal token by token. */
  readonly overlap?: boolean;
  /**
   * Bytes of memory for weights, KV cache and buffers together. With it the model runs from an offload store, and what
   * does not fit streams from disk; without it all is in memory.
   */
  readonly hostMemoryBytes?: number;
  /** Bytes of the device's own memory, where it has some. */
  readonly deviceMemoryBytes?: number;
  /** Bytes that may lie on disk: the offload store and what of a run lives there. */
  readonly diskMemoryBytes?: number;
  /** Says what is computed together and where it lives, in place of what the budget would suggest. */
  readonly policy?: Partial<Policy>;
  /** Searches the policy for this machine and this work, where there is a budget and `policy` places no weights. */
  readonly planning?: Planning;
  /** Longest sequence to make room for in the budget, prompt and completion together; default: the model's own. */
  readonly contextTokens?: number;
  /** Where the offload store is made if `model` is none, and files of a run are; default: beside the sums in `cacheDir`. */
  readonly offloadDir?: string;
  /** How an offload store made here holds the weights; default 16. */
  readonly weightBits?: WeightBits;
  /**
   * Of the products: float32, or 8-bit integers with a scale for each row, faster where the processor has VNNI and all
   * weights are in memory. Default 32.
   */
  readonly computeBits?: ComputeBits;
  /**
   * Of keys and values in the cache: float32, float16, or codes of 8 or 4 bits, which take a fourth or a seventh of the
   * room and change answers. Default 32.
   */
  readonly kvBits?: KvBits;
  /** Of the positions that a new token sees, the share whose values it reads; from above 0 to 1, the default. */
  readonly sparseAttention?: number;
  /** Where sums of model files are remembered. */
  readonly cacheDir?: string;
  /** Whether rows of beginnings that requests share, and equal requests, are computed once. Default: true. */
  readonly sharing?: boolean;
  /** Keep every step's time for a timeline. */
  readonly timeline?: boolean;
}
