/**
 * Text to token ids and back, by the model's own rules.
 *
 * The one door to the `tokenizers` library. It encodes on threads of its own, so encoding is asynchronous; ids become
 * text through its decoder, at once.
 */
import type { Decoder } from 'tokenizers';
import { Tokenizer as LibraryTokenizer } from 'tokenizers';
import { EngineError } from '../errors.js';
import { isRecord } from './json.js';
import type { TokenStream } from './token-stream.js';
import { openTokenStream } from './token-stream.js';

export type { TokenStream } from './token-stream.js';

export interface EncodeOptions {
  /** Add what the model puts around a text (BOS for most); default true, unless the text begins with the name of BOS. */
  readonly addSpecial?: boolean;
  /** Read the names of special tokens in the text as those tokens; default true. */
  readonly parseSpecial?: boolean;
}

export interface DecodeOptions {
  /** Leave special tokens out of the text; default false. */
  readonly skipSpecial?: boolean;
}

export interface Tokenizer {
  /** What a tokenizer.json that describes it holds. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly vocabSize: number;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  encode(text: string, options?: EncodeOptions): Promise<number[]>;
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /**
   * Where a continuation begins in the ids of both, by lm-eval's rule: spaces that end the context move to the
   * continuation, both are encoded as one text, and the ids are cut at the length of the context's own.
   */
  encodePair(context: string, continuation: string, options?: EncodeOptions): Promise<TokenPair>;
  /** Text of ids that come one by one. */
  stream(options?: DecodeOptions): TokenStream;
}

export interface TokenPair {
  readonly context: number[];
  readonly continuation: number[];
}

export interface TokenizerInput {
  /** For messages: the file. */
  readonly source: string;
  /** What a tokenizer.json holds. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
}

/** @throws BAD_WEIGHTS if the library refuses the description. */
export function openTokenizer({ source, json, bosToken, eosToken }: TokenizerInput): Tokenizer {
  const description = JSON.stringify(json);
  const library = openLibrary(source, description);
  // Only text that may name special tokens without meaning them needs the second one, which takes as long to build.
  let plain: LibraryTokenizer | undefined;
  const specialIds = new Set(addedTokens(json).flatMap(({ special, id }) => (special === true ? [id] : [])));
  const decoder = library.getDecoder();
  // Chat templates write BOS themselves; a second one would be a prompt that the model was never trained on.
  const beginsWithBos = (text: string) => bosToken !== undefined && bosToken !== '' && text.startsWith(bosToken);
  const encode = async (
    text: string,
    { parseSpecial = true, addSpecial = !(parseSpecial && beginsWithBos(text)) }: EncodeOptions = {},
  ): Promise<number[]> => {
    if (!parseSpecial) plain ??= openLibrary(source, withoutSpecialNames(description));
    const encoding = await (parseSpecial ? library : plain!).encode(text, undefined, { addSpecialTokens: addSpecial });
    return encoding.getIds();
  };
  const decode = (ids: readonly number[], { skipSpecial = false }: DecodeOptions = {}): string => {
    const kept = skipSpecial ? ids.filter((id) => !specialIds.has(id)) : ids;
    return join(
      decoder,
      kept.map((id) => library.idToToken(id)).filter((token) => token !== null),
    );
  };
  return {
    // Kept as text: a vocabulary's hundred thousand strings would be walked by every garbage collection.
    get json() {
      return JSON.parse(description);
    },
    vocabSize: library.getVocabSize(true),
    bosToken,
    eosToken,
    encode,
    decode,
    encodePair: async (context, continuation, options) => {
      const kept = context.trimEnd();
      const whole = await encode(context + continuation, options);
      const { length } = await encode(kept, options);
      return { context: whole.slice(0, length), continuation: whole.slice(length) };
    },
    stream: (options) => openTokenStream((ids) => decode(ids, options)),
  };
}

/** @param description a tokenizer.json's text */
function openLibrary(source: string, description: string): LibraryTokenizer {
  try {
    const library = LibraryTokenizer.fromString(description);
    // Files saved after training may carry both, and would cut or fill every prompt.
    library.disableTruncation();
    library.disablePadding();
    return library;
  } catch (error) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${source}: no tokenizer can be built from it (${(error as Error).message})`,
      { path: source },
      { cause: error },
    );
  }
}

/** As the library joins tokens itself. */
function join(decoder: Decoder | null, tokens: string[]): string {
  return decoder === null ? tokens.join(' ') : decoder.decode(tokens);
}

/**
 * The same tokenizer, to which the names of special tokens are plain text.
 *
 * The library gives ids to added tokens in their order, so one that is in no vocabulary keeps its place under a name that
 * no text contains.
 */
function withoutSpecialNames(description: string): string {
  const json = JSON.parse(description) as Readonly<Record<string, unknown>>;
  const names = vocabularyNames(json.model);
  const tokens = addedTokens(json).flatMap((token) => {
    if (token.special !== true) return [token];
    return names.has(token.content) ? [] : [{ ...token, content: `\u{10ffff}${token.id}` }];
  });
  return JSON.stringify({ ...json, added_tokens: tokens });
}

interface AddedToken extends Record<string, unknown> {
  readonly id: number;
}

function addedTokens(json: Readonly<Record<string, unknown>>): readonly AddedToken[] {
  const tokens = Array.isArray(json.added_tokens) ? json.added_tokens : [];
  return tokens.filter((token): token is AddedToken => isRecord(token) && Number.isSafeInteger(token.id));
}

/** A vocabulary is an object of ids, or, of a unigram model, a list of names with scores. */
function vocabularyNames(model: unknown): ReadonlySet<unknown> {
  const vocab = isRecord(model) ? model.vocab : undefined;
  if (Array.isArray(vocab))
    return new Set(vocab.map((entry: unknown) => (Array.isArray(entry) ? entry[0] : undefined)));
  return new Set(isRecord(vocab) ? Object.keys(vocab) : []);
}
