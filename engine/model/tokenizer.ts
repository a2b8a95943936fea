/** Text to token ids and back, by the model's own rules. */

export interface EncodeOptions {
  /** Add what the model puts around a text (BOS for most); default true. */
  readonly addSpecial?: boolean;
  /** Read the names of special tokens in the text as those tokens; default true. */
  readonly parseSpecial?: boolean;
}

export interface Tokenizer {
  readonly vocabSize: number;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  /** Asynchronous since the library encodes on threads of its own. */
  encode(text: string, options?: EncodeOptions): Promise<number[]>;
  decode(ids: readonly number[], options?: { readonly skipSpecial?: boolean }): string;
  /**
   * Where a continuation begins in the ids of both, by lm-eval's rule: spaces that end the context move to the
   * continuation, both are encoded as one text, and the ids are cut at the length of the context's own.
   */
  encodePair(context: string, continuation: string, options?: EncodeOptions): Promise<TokenPair>;
  /** Text of ids that come one by one. */
  stream(options?: { readonly skipSpecial?: boolean }): TokenStream;
}

export interface TokenPair {
  readonly context: number[];
  readonly continuation: number[];
}

export interface TokenStream {
  /** The text that this id makes final: empty while a character is incomplete. */
  push(id: number): string;
  /** What was held back. */
  flush(): string;
}
