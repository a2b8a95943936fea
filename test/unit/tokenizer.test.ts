import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { GgufValue } from '../../engine/model/gguf-reader.js';
import { openGgufTokenizer } from '../../engine/model/gguf-tokenizer.js';
import { openTokenStream } from '../../engine/model/token-stream.js';
import type { Tokenizer } from '../../engine/model/tokenizer.js';
import { openTokenizer } from '../../engine/model/tokenizer.js';
import { FIXTURES } from '../support/golden.js';

const storiesJson = JSON.parse(readFileSync(join(FIXTURES, 'stories260k', 'tokenizer.json'), 'utf8'));
const stories = openTokenizer({ source: 'tokenizer.json', json: storiesJson, bosToken: '<s>', eosToken: '</s>' });
const storyTokens: string[] = Object.entries(storiesJson.model.vocab as Record<string, number>)
  .sort(([, a], [, b]) => a - b)
  .map(([token]) => token);

const texts = [
  '',
  ' ',
  'Once upon a time, there was a little girl named Lily.',
  '  two  spaces   and a tab\tand\n\nlines ',
  'Ünïcödé, 中文 and 😀: byte fallback',
  'THE DOG said "hello" 1234 times!',
  'a▁b',
  '<s>after BOS</s> and after EOS',
];

describe('tokenizer', () => {
  it('adds what the model puts around a text unless it is asked not to', async () => {
    expect((await stories.encode('Once'))[0]).toBe(1);
    expect((await stories.encode('Once', { addSpecial: false }))[0]).not.toBe(1);
  });

  it('adds no second BOS to a text that begins with its name, as chat templates write it', async () => {
    const ids = await stories.encode('<s>Once');
    expect(ids.filter((id) => id === 1)).toEqual([1]);
    const { context } = await stories.encodePair('<s>Once', ' upon');
    expect(context.filter((id) => id === 1)).toEqual([1]);
    expect((await stories.encode('<s>Once', { addSpecial: true })).filter((id) => id === 1)).toEqual([1, 1]);
  });

  it('takes names of special tokens as text where it is asked to, and still adds BOS', async () => {
    const [bos, ...rest] = await stories.encode('<s>', { parseSpecial: false });
    expect(bos).toBe(1);
    expect(rest).not.toContain(1);
    expect(stories.decode(rest)).toBe('<s>');
  });

  it('neither cuts nor fills a prompt where the file was saved with a length', async () => {
    const json = {
      ...storiesJson,
      truncation: { direction: 'Right', max_length: 4, strategy: 'LongestFirst', stride: 0 },
      padding: {
        strategy: { Fixed: 64 },
        direction: 'Left',
        pad_to_multiple_of: null,
        pad_id: 0,
        pad_type_id: 0,
        pad_token: '<unk>',
      },
    };
    const tokenizer = openTokenizer({ source: 'tokenizer.json', json, bosToken: undefined, eosToken: undefined });
    expect(await tokenizer.encode(texts[2]!)).toEqual(await stories.encode(texts[2]!));
  });

  it('keeps the ids of other added tokens where special names are plain text', async () => {
    const added = (id: number, content: string, special: boolean) => ({
      id,
      content,
      special,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    });
    const json = {
      ...storiesJson,
      added_tokens: [...storiesJson.added_tokens, added(512, '<|end|>', true), added(513, '<tool>', false)],
    };
    const tokenizer = openTokenizer({ source: 'tokenizer.json', json, bosToken: undefined, eosToken: undefined });
    expect(await tokenizer.encode('<|end|><tool>', { addSpecial: false })).toEqual([512, 513]);
    const ids = await tokenizer.encode('<|end|><tool>', { addSpecial: false, parseSpecial: false });
    expect(ids).not.toContain(512);
    expect(ids.at(-1)).toBe(513);
  });

  it.each([
    ['spaces that end the context move to the continuation', 'The dog ', 'ran', 'The dog', ' ran'],
    ['without such spaces the texts stay as they are', 'The dog', ' ran', 'The dog', ' ran'],
    ['line ends count as spaces', 'The dog\n', 'ran', 'The dog', '\nran'],
    ['an empty context leaves BOS', '', 'The', '', 'The'],
  ])('cuts a pair: %s', async (_, context, continuation, contextText, continuationText) => {
    const pair = await stories.encodePair(context, continuation);
    expect(pair.context).toEqual(await stories.encode(contextText));
    expect([...pair.context, ...pair.continuation]).toEqual(await stories.encode(context + continuation));
    // Without its first token, the text of the whole ends with that of the continuation.
    expect(stories.decode([...pair.context, ...pair.continuation], { skipSpecial: true })).toBe(
      contextText + continuationText,
    );
  });

  it.each(texts)('streams what it decodes at once: %j', async (text) => {
    for (const skipSpecial of [false, true]) {
      const ids = await stories.encode(text);
      const stream = stories.stream({ skipSpecial });
      expect(ids.map((id) => stream.push(id)).join('') + stream.flush()).toBe(stories.decode(ids, { skipSpecial }));
    }
  });
});

describe('stream of tokens', () => {
  const bytes: readonly number[][] = [[0x61], [0xf0, 0x9f], [0x98, 0x80], [0x62], [0xff]];
  const decode = (ids: readonly number[]) => Buffer.from(ids.flatMap((id) => bytes[id]!)).toString('utf8');

  it.each([
    ['gives whole characters as they come', [0, 3, 0], ['a', 'b', 'a'], ''],
    ['holds an incomplete character back', [0, 1, 2, 3], ['a', '', '😀', 'b'], ''],
    ['gives an incomplete character at the end, as a decoder would', [0, 1], ['a', ''], '\ufffd'],
    ['gives bytes that are no character with what follows them', [4, 3], ['', '\ufffdb'], ''],
    ['is empty when nothing was pushed', [], [], ''],
  ])('%s', (_, ids, pushed, flushed) => {
    const stream = openTokenStream(decode);
    expect(ids.map((id) => stream.push(id))).toEqual(pushed);
    expect(stream.flush()).toBe(flushed);
  });
});

describe('tokenizer rebuilt from GGUF metadata: SentencePiece', () => {
  // Token types as llama.cpp's converter sets them: unknown, control, bytes, normal.
  const types = storyTokens.map((token, id) => (id === 0 ? 2 : id < 3 ? 3 : /^<0x[0-9A-F]{2}>$/.test(token) ? 6 : 1));
  const metadata = {
    model: 'llama',
    tokens: storyTokens,
    scores: readScores(join(FIXTURES, 'stories260k', 'tok512.bin')),
    token_type: Int32Array.from(types),
    bos_token_id: 1,
    eos_token_id: 2,
  };

  it.each(texts)('encodes and decodes as the tokenizer.json of the same model does: %j', async (text) => {
    const rebuilt = open(metadata);
    const ids = await rebuilt.encode(text);
    expect(ids).toEqual(await stories.encode(text));
    expect(rebuilt.decode(ids)).toBe(stories.decode(ids));
  });

  it.each([
    ['BOS unless the file says no', {}, true, false],
    ['no BOS', { add_bos_token: false }, false, false],
    ['EOS as well', { add_eos_token: true }, true, true],
  ])('adds %s', async (_, change, bos, eos) => {
    const ids = await open({ ...metadata, ...change }).encode('Once');
    expect([ids[0] === 1, ids.at(-1) === 2]).toEqual([bos, eos]);
  });

  it('puts no space before the text where the file says so', async () => {
    const tokenizer = open({ ...metadata, add_bos_token: false, add_space_prefix: false });
    const ids = await tokenizer.encode(' the');
    expect(ids).toEqual([storyTokens.indexOf('▁the')]);
    expect(tokenizer.decode(ids)).toBe(' the');
    expect(tokenizer.decode(await tokenizer.encode('the'))).toBe('the');
  });
});

describe('tokenizer rebuilt from GGUF metadata: byte-level BPE', () => {
  // Bytes as themselves or, for a space, as Ġ; then merges that make every cut between words visible.
  const alphabet = ['Ġ', ...'0123456789', ...'aAbSs', "'", '.', '!', '-'];
  const pieces = ['12', '123', '1234', "'s", "'S", 'ab', 'Ġa', 'Ġab', '.a', '!!', '!a', 'ĠĠ', 'Ġ!', 'Ġ1'];
  const merges = ['1 2', '12 3', '123 4', "' s", "' S", 'Ġ a', 'Ġa b', 'a b', '. a', 'Ġ !', '! !', '! a', 'Ġ Ġ', 'Ġ 1'];
  const special = ['<s>', '</s>', '<mark>'];
  const tokens = [...special, ...alphabet, ...pieces];
  const metadata = {
    model: 'gpt2',
    tokens,
    merges,
    token_type: tokens.map((token) => (token === '<mark>' ? 4 : special.includes(token) ? 3 : 1)),
    bos_token_id: 0,
    eos_token_id: 1,
    add_bos_token: false,
  };

  it.each([
    ['gpt-2', '1234', ['1234']],
    ['smollm', '1234', ['1', '2', '3', '4']],
    ['llama-bpe', '1234', ['123', '4']],
    ['qwen2', '1234', ['1', '2', '3', '4']],
    ['default', '1234', ['123', '4']],
    ['gpt-2', ' 1', ['Ġ1']],
    ['smollm', ' 1', ['Ġ', '1']],
    ['llama-bpe', ' 1', ['Ġ', '1']],
    ['qwen2', ' 1', ['Ġ', '1']],
    ['default', ' 1', ['Ġ', '1']],
    ['gpt-2', "a'S", ['a', "'", 'S']],
    ['smollm', "a'S", ['a', "'", 'S']],
    ['llama-bpe', "a'S", ['a', "'S"]],
    ['qwen2', "a's", ['a', "'s"]],
    ['gpt-2', 'b.a', ['b', '.', 'a']],
    ['llama-bpe', 'b.a', ['b', '.a']],
    ['qwen2', 'b.a', ['b', '.a']],
    ['default', ' !!', ['Ġ', '!!']],
    ['gpt-2', ' !!', ['Ġ!', '!']],
    ['gpt-2', '   ab', ['ĠĠ', 'Ġab']],
    ['smollm', '   ab', ['ĠĠ', 'Ġab']],
    ['llama-bpe', '   ab', ['ĠĠ', 'Ġab']],
    ['default', '   ab', ['ĠĠ', 'Ġab']],
  ])('%s cuts %j into %j', async (pre, text, expected) => {
    const tokenizer = open({ ...metadata, pre });
    expect((await tokenizer.encode(text)).map((id) => tokens[id])).toEqual(expected);
    expect(tokenizer.decode(await tokenizer.encode(text))).toBe(text);
  });

  it('takes the default rule where the file names none', async () => {
    expect((await open(metadata).encode(' !!')).map((id) => tokens[id])).toEqual(['Ġ', '!!']);
  });

  it('takes a whole word as its token, without merges to it, for llama-bpe only', async () => {
    const change = { merges: [], pre: 'llama-bpe' };
    expect((await open({ ...metadata, ...change }).encode('ab')).map((id) => tokens[id])).toEqual(['ab']);
    expect((await open({ ...metadata, ...change, pre: 'smollm' }).encode('ab')).map((id) => tokens[id])).toEqual([
      'a',
      'b',
    ]);
  });

  it('composes characters first for qwen2 only', async () => {
    const more = { ...metadata, tokens: [...tokens, 'Ã', '©'], token_type: [...metadata.token_type, 1, 1] };
    // An e with a combining accent becomes the two bytes of é, which are tokens; e and the accent are not.
    expect(await open({ ...more, pre: 'qwen2' }).encode('e\u0301')).toEqual([tokens.length, tokens.length + 1]);
    expect(await open({ ...more, pre: 'smollm' }).encode('e\u0301')).toEqual([]);
  });

  it.each([
    ['as the file says', { add_bos_token: true }, 'smollm', ['<s>', 'a']],
    ['and EOS', { add_bos_token: true, add_eos_token: true }, 'smollm', ['<s>', 'a', '</s>']],
    ['not for smollm by default', { add_bos_token: undefined }, 'smollm', ['a']],
    ['for llama-bpe by default', { add_bos_token: undefined }, 'llama-bpe', ['<s>', 'a']],
  ])('adds BOS %s', async (_, change, pre, expected) => {
    expect((await open({ ...metadata, ...change, pre }).encode('a')).map((id) => tokens[id])).toEqual(expected);
  });

  it('finds control and user-defined tokens in a text, and skips only the former', async () => {
    const tokenizer = open({ ...metadata, pre: 'smollm' });
    const ids = await tokenizer.encode('a</s>b<mark>');
    expect(ids.map((id) => tokens[id])).toEqual(['a', '</s>', 'b', '<mark>']);
    expect(tokenizer.decode(ids, { skipSpecial: true })).toBe('ab<mark>');
  });

  it.each([
    [
      'another kind',
      { model: 'bert' },
      'UNSUPPORTED',
      /tokenizer\.ggml\.model: found "bert"; supported: "gpt2", "llama"/,
    ],
    [
      'another pre-tokenizer',
      { pre: 'tekken' },
      'UNSUPPORTED',
      /tokenizer\.ggml\.pre: found "tekken"; supported: "default", "gpt-2", "smollm", "llama-bpe", "qwen2"/,
    ],
    [
      'no tokens',
      { tokens: undefined },
      'BAD_WEIGHTS',
      /tokenizer\.ggml\.tokens: needed a list of texts, found nothing/,
    ],
    [
      'types of another vocabulary',
      { token_type: [1] },
      'BAD_WEIGHTS',
      /tokenizer\.ggml\.token_type: needed a list of 37 numbers, found a list of 1 values/,
    ],
    ['merges of unknown tokens', { merges: ['x y'] }, 'BAD_WEIGHTS', /no tokenizer can be built from it/],
  ])('refuses %s', (_, change, code, message) => {
    expect(() => open({ ...metadata, pre: 'smollm', ...change })).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  it('is absent where the file has none', () => {
    expect(openGgufTokenizer('model.gguf', new Map())).toBeUndefined();
    expect(openGgufTokenizer('model.gguf', new Map([['tokenizer.ggml.model', 'none']]))).toBeUndefined();
  });
});

function open(metadata: Readonly<Record<string, unknown>>): Tokenizer {
  const present = Object.entries(metadata).filter(([, value]) => value !== undefined);
  const entries = present.map(([key, value]) => [`tokenizer.ggml.${key}`, value as GgufValue] as const);
  return openGgufTokenizer('model.gguf', new Map(entries))!;
}

/** llama2.c's tokenizer file: the longest token's length, then for each token its score, its length and its bytes. */
function readScores(path: string): Float32Array {
  const bytes = readFileSync(path);
  const scores: number[] = [];
  for (let at = 4; at < bytes.length; at += 8 + bytes.readInt32LE(at + 4)) scores.push(bytes.readFloatLE(at));
  return Float32Array.from(scores);
}
