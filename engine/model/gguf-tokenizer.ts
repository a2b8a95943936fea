/**
 * The tokenizer of a GGUF file, rebuilt from its metadata as a tokenizer.json.
 *
 * Two kinds: byte-level BPE (`gpt2`), whose rule for cutting text into words has a name of its own (the pre-tokenizer), and
 * SentencePiece BPE (`llama`), which has scores instead of merges. Sources: llama.cpp's vocabulary code for what the names mean,
 * transformers' SentencePiece conversion for the merges.
 */
import { unsupported } from './families/family.js';
import type { GgufValue } from './gguf-reader.js';
import type { Fields } from './json.js';
import { fieldsOf } from './json.js';
import type { Tokenizer } from './tokenizer.js';
import { openTokenizer } from './tokenizer.js';

type Json = Readonly<Record<string, unknown>>;

/** What a kind of tokenizer does with a text, and whether it begins with BOS unless the file says otherwise. */
interface Rules {
  readonly json: Json;
  readonly addBos: boolean;
}

const key = (name: string) => `tokenizer.ggml.${name}`;

/** The rule of GPT-2 itself, which the library has built in. */
const gpt2Words = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true };
const bytesOnly = { ...gpt2Words, use_regex: false };

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const cl100kWords = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** How text is cut before BPE, by the names that GGUF files give (`tokenizer.ggml.pre`). */
const preTokenizers: Readonly<Record<string, PreTokenizer>> = {
  default: {
    steps: [
      isolate('[\\p{P}\\$\\+<=>\\^~\\|]+'),
      isolate("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"),
      isolate('\\p{N}+'),
      isolate('[0-9][0-9][0-9]'),
      bytesOnly,
    ],
  },
  'gpt-2': { steps: [gpt2Words] },
  smollm: { steps: [{ type: 'Digits', individual_digits: true }, gpt2Words] },
  'llama-bpe': { steps: [isolate(cl100kWords('\\p{N}{1,3}')), bytesOnly], ignoreMerges: true, addBos: true },
  qwen2: { steps: [isolate(cl100kWords('\\p{N}')), bytesOnly], normalizer: { type: 'NFC' } },
};

interface PreTokenizer {
  readonly steps: readonly Json[];
  readonly normalizer?: Json;
  /** A word that is a token is taken whole, even where no merges lead to it. */
  readonly ignoreMerges?: boolean;
  readonly addBos?: boolean;
}

/** Token types of GGUF. */
const normalType = 1;
const unknownType = 2;
const controlType = 3;
const userDefinedType = 4;
const unusedType = 5;

/**
 * @returns undefined where the file has no tokenizer.
 * @throws UNSUPPORTED, naming the kind and those supported; BAD_WEIGHTS if the metadata contradicts itself.
 */
export function openGgufTokenizer(path: string, metadata: ReadonlyMap<string, GgufValue>): Tokenizer | undefined {
  const model = metadata.get(key('model'));
  if (model === undefined || model === 'none' || model === 'no_vocab') return undefined;
  const fields = fieldsOf(path, (name) => metadata.get(name));
  const tokens = fields.texts(key('tokens'));
  const rules = rulesOf(fields, model, tokens);
  const tokenOf = (name: string) => tokens[fields.tokenId(key(`${name}_token_id`)) ?? -1];
  const bosToken = tokenOf('bos');
  const eosToken = tokenOf('eos');
  const before = fields.flag(key('add_bos_token'), rules.addBos) ? bosToken : undefined;
  const after = fields.flag(key('add_eos_token'), false) ? eosToken : undefined;
  const json = {
    version: '1.0',
    added_tokens: addedTokens(fields, tokens),
    post_processor: surround(before, after, tokens),
    ...rules.json,
  };
  return openTokenizer({ source: path, json, bosToken, eosToken });
}

function rulesOf(fields: Fields, model: unknown, tokens: readonly string[]): Rules {
  if (model === 'gpt2') return byteLevelRules(fields, tokens);
  if (model === 'llama') return sentencePieceRules(fields, tokens);
  throw unsupported(fields.source, key('model'), model, ['gpt2', 'llama']);
}

function byteLevelRules(fields: Fields, tokens: readonly string[]): Rules {
  const name = fields.text(key('pre'), 'default');
  const rule = Object.hasOwn(preTokenizers, name) ? preTokenizers[name] : undefined;
  if (rule === undefined) throw unsupported(fields.source, key('pre'), name, Object.keys(preTokenizers));
  // A token may itself begin with a space, so the one between the two is looked for after the first character.
  const merges = fields.texts(key('merges')).map((merge) => {
    const space = merge.indexOf(' ', 1);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
  const json = {
    normalizer: rule.normalizer ?? null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: rule.steps },
    decoder: bytesOnly,
    model: { type: 'BPE', vocab: vocabularyOf(tokens), merges, ignore_merges: rule.ignoreMerges ?? false },
  };
  return { json, addBos: rule.addBos ?? false };
}

function sentencePieceRules(fields: Fields, tokens: readonly string[]): Rules {
  const addPrefix = fields.flag(key('add_space_prefix'), true);
  if (fields.flag(key('remove_extra_whitespaces'), false))
    throw unsupported(fields.source, key('remove_extra_whitespaces'), true, [false]);
  const toMarks = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const fromMarks = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const withoutPrefix = { type: 'Strip', content: ' ', start: 1, stop: 0 };
  const types = fields.numbers(key('token_type'), tokens.length);
  const json = {
    normalizer: { type: 'Sequence', normalizers: [...(addPrefix ? [{ type: 'Prepend', prepend: '▁' }] : []), toMarks] },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [fromMarks, { type: 'ByteFallback' }, { type: 'Fuse' }, ...(addPrefix ? [withoutPrefix] : [])],
    },
    model: {
      type: 'BPE',
      vocab: vocabularyOf(tokens),
      merges: mergesOf(tokens, types, fields.numbers(key('scores'), tokens.length)),
      unk_token: tokens[types.indexOf(unknownType)] ?? null,
      fuse_unk: true,
      byte_fallback: true,
    },
  };
  return { json, addBos: true };
}

/** The merges that scores stand for: of every token, each cut into two tokens; the best score first, then the longest left part. */
function mergesOf(tokens: readonly string[], types: readonly number[], scores: readonly number[]): [string, string][] {
  const ids = new Map<string, number>();
  tokens.forEach((token, id) => {
    if (types[id] === normalType || types[id] === unusedType) ids.set(token, id);
  });
  const merges: { left: string; right: string; id: number }[] = [];
  for (const [token, id] of ids) {
    for (let cut = nextCharacter(token, 0); cut < token.length; cut = nextCharacter(token, cut)) {
      const left = token.slice(0, cut);
      if (!ids.has(left)) continue;
      const right = token.slice(cut);
      if (ids.has(right)) merges.push({ left, right, id });
    }
  }
  merges.sort(
    (a, b) => scores[b.id]! - scores[a.id]! || b.left.length - a.left.length || b.right.length - a.right.length,
  );
  return merges.map(({ left, right }) => [left, right]);
}

/** Where the character at `at` ends: some take two units. */
function nextCharacter(text: string, at: number): number {
  return at + (text.codePointAt(at)! > 0xffff ? 2 : 1);
}

/** Tokens that are found in a text before any rule is applied. */
function addedTokens(fields: Fields, tokens: readonly string[]): Json[] {
  const types = fields.numbers(key('token_type'), tokens.length);
  return tokens.flatMap((content, id) => {
    const special = types[id] === controlType || types[id] === unknownType;
    if (!special && types[id] !== userDefinedType) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
}

function surround(before: string | undefined, after: string | undefined, tokens: readonly string[]): Json | null {
  const around = [before, after].filter((token) => token !== undefined);
  if (around.length === 0) return null;
  const piece = (token: string | undefined) =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: 0 } }];
  const text = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } });
  return {
    type: 'TemplateProcessing',
    single: [...piece(before), text('A'), ...piece(after)],
    pair: [...piece(before), text('A'), text('B'), ...piece(after)],
    special_tokens: Object.fromEntries(
      around.map((token) => [token, { id: token, ids: [tokens.indexOf(token)], tokens: [token] }]),
    ),
  };
}

function vocabularyOf(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((token, id) => [token, id]));
}

function isolate(pattern: string): Json {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}
