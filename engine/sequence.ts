/**
 * One request while it is computed: what was generated, what ends it, and what becomes of it.
 */
import type { HeadResult } from './backends/backend.js';
import { type Random, type RandomState, resumedRandom, seededRandom } from './model/random.js';
import { chooseToken, headNeeds } from './model/sampler.js';
import type { TokenStream } from './model/token-stream.js';
import type { EngineResult, GenerateRequest, GenerateResult, OptionScore, ScoreRequest } from './requests.js';
import type { TokenTree } from './schedule/token-tree.js';

/** The row of a head's result that belongs to a sequence. */
export interface HeadRow {
  readonly result: HeadResult;
  readonly row: number;
  /** Width of `topIds`. */
  readonly top: number;
}

/** What ends sequences of this model. */
export interface Ending {
  readonly eosTokenIds: readonly number[];
  readonly maxPositions: number;
}

/** What a sequence has become, besides its request: plain data, from which another engine goes on. */
export interface SavedSequence {
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
  readonly topLogprobs: GenerateResult['topLogprobs'] & {};
  readonly promptLogprobs: GenerateResult['promptLogprobs'];
  readonly random: RandomState;
}

/** A sequence that grows token by token. */
export class GenerateSequence {
  readonly kind = 'generate';
  readonly tokens: number[] = [];
  private readonly logprobs: number[] = [];
  private readonly topLogprobs: (readonly (readonly [number, number])[])[] = [];
  private promptLogprobs: readonly (number | null)[] | undefined;
  private random: Random;
  private text = '';
  private finishReason: 'stop' | 'length' | undefined;

  constructor(
    readonly request: GenerateRequest,
    readonly prompt: readonly number[],
    private readonly ending: Ending,
    private readonly stream: TokenStream | undefined,
  ) {
    this.random = seededRandom(request.sampling.seed);
    if (request.maxNewTokens === 0) this.finishReason = 'length';
  }

  /** Prompt and generated tokens. */
  get length(): number {
    return this.prompt.length + this.tokens.length;
  }

  get finished(): boolean {
    return this.finishReason !== undefined;
  }

  get needs(): { readonly top: number; readonly all: boolean } {
    const { top, all } = headNeeds(this.request.sampling);
    return { top: Math.max(top, this.request.topLogprobs ?? 0), all };
  }

  /** Chooses the next token from its head row, and ends the sequence if that token, its text or its place says so. */
  accept(head: HeadRow): void {
    const { result, row, top } = head;
    const ranked = {
      ids: result.topIds.subarray(row * top, (row + 1) * top),
      logits: result.topLogits.subarray(row * top, (row + 1) * top),
    };
    const vocabulary = result.logits && rowOf(result.logits, row, result.logSumExp.length);
    const all = this.needs.all && vocabulary;
    const { sampling } = this.request;
    const token = chooseToken(sampling, all ? { logits: all } : ranked, this.random);
    const logit = all ? all[token]! : ranked.logits[ranked.ids.indexOf(token)]!;
    this.logprobs.push(logit - result.logSumExp[row]!);
    const reported = this.request.topLogprobs ?? 0;
    if (reported > 0) {
      const pairs = Array.from(ranked.ids.subarray(0, reported), (id, i): [number, number] => [
        id,
        ranked.logits[i]! - result.logSumExp[row]!,
      ]);
      this.topLogprobs.push(pairs);
    }
    this.append(token);
  }

  /** Log-probabilities of prompt tokens 1.. given those before them. */
  setPromptLogprobs(logprobs: readonly number[]): void {
    this.promptLogprobs = [null, ...logprobs];
  }

  save(): SavedSequence {
    const { tokens, logprobs, topLogprobs, promptLogprobs } = this;
    return { tokens, logprobs, topLogprobs, promptLogprobs, random: this.random.state() };
  }

  /** Takes up where a sequence of the same request was saved: text and ending follow from the tokens. */
  restore(saved: SavedSequence): void {
    for (const token of saved.tokens) this.append(token);
    for (const logprob of saved.logprobs) this.logprobs.push(logprob);
    for (const top of saved.topLogprobs) this.topLogprobs.push(top);
    this.promptLogprobs = saved.promptLogprobs;
    this.random = resumedRandom(saved.random);
  }

  result(): GenerateResult {
    const { request } = this;
    return {
      kind: 'generate',
      id: request.id,
      text: this.text,
      tokens: this.tokens,
      finishReason: this.finishReason ?? 'length',
      promptTokens: this.prompt.length,
      logprobs: this.logprobs,
      ...(request.topLogprobs && { topLogprobs: this.topLogprobs }),
      ...(request.promptLogprobs && { promptLogprobs: this.promptLogprobs ?? [] }),
    };
  }

  private append(token: number): void {
    this.tokens.push(token);
    const isEos = this.ending.eosTokenIds.includes(token);
    this.text += this.stream?.push(token) ?? '';
    if (isEos && !this.request.ignoreEos) this.end('stop');
    else if (this.cutAtStop()) this.finishReason = 'stop';
    else if (this.tokens.length >= this.request.maxNewTokens || this.length >= this.ending.maxPositions) {
      this.end('length');
    }
  }

  private end(reason: 'stop' | 'length'): void {
    this.text += this.stream?.flush() ?? '';
    // The bytes held back may complete a stop string.
    this.finishReason = this.cutAtStop() ? 'stop' : reason;
  }

  /** Cuts the text before the first stop string. */
  private cutAtStop(): boolean {
    const places = this.request.stop.map((stop) => this.text.indexOf(stop)).filter((place) => place >= 0);
    if (places.length === 0) return false;
    this.text = this.text.slice(0, Math.min(...places));
    return true;
  }
}

/** A context with its options: one pass, then it is done. */
export class ScoreSequence {
  readonly kind = 'score';
  private scores: readonly OptionScore[] | undefined;

  constructor(
    readonly request: ScoreRequest,
    readonly tree: TokenTree,
    readonly promptTokens: number,
  ) {}

  get finished(): boolean {
    return this.scores !== undefined;
  }

  /** @param score log-probability of a token at a tree row, and whether it is the most probable one there. */
  accept(score: (row: number, token: number) => { logprob: number; isTop: boolean }): void {
    this.scores = this.tree.options.map((option) => {
      const scored = option.map(({ row, token }) => score(row, token));
      return {
        logprob: scored.reduce((sum, { logprob }) => sum + logprob, 0),
        tokens: option.length,
        isGreedy: scored.every(({ isTop }) => isTop),
      };
    });
  }

  result(): EngineResult {
    return { kind: 'score', id: this.request.id, promptTokens: this.promptTokens, options: this.scores ?? [] };
  }
}

export type Sequence = GenerateSequence | ScoreSequence;

function rowOf(logits: Float32Array, row: number, rows: number): Float32Array {
  const width = logits.length / rows;
  return logits.subarray(row * width, (row + 1) * width);
}
