import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OpenModel } from '../../engine/model/open.js';
import { openModel } from '../../engine/model/open.js';
import type { Tokenizer } from '../../engine/model/tokenizer.js';
import { FIXTURES, readGolden } from '../support/golden.js';
import { smollm2IsMissing, smollm2Path } from '../support/smollm2.js';

interface TokenizerCase {
  readonly text: string;
  readonly ids: number[];
  readonly decoded: string;
  readonly idsWithoutSpecial?: number[];
  readonly decodedSkippingSpecial?: string;
}

const { cases, partial } = readJson('tokenizer-cases.json') as {
  readonly cases: readonly TokenizerCase[];
  readonly partial: readonly { readonly ids: number[]; readonly decoded: string }[];
};
const chat = readJson('chat-cases.json') as {
  readonly chatTemplate: string;
  readonly conversations: readonly { readonly rendered: string; readonly ids: number[] }[];
};

describe.skipIf(smollm2IsMissing)('tokenizer of the SmolLM2 GGUF file', () => {
  let model: OpenModel;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    model = await openModel(smollm2Path);
    tokenizer = model.tokenizer!;
  });
  afterAll(() => model.weights.close());

  it.each(cases.map((entry) => [JSON.stringify(entry.text).slice(0, 60), entry] as const))(
    'encodes %s',
    async (_, { text, ids }) => {
      expect(await tokenizer.encode(text)).toEqual(ids);
    },
  );

  it.each(cases.map((entry) => [JSON.stringify(entry.text).slice(0, 60), entry] as const))(
    'decodes %s, at once and in a stream',
    (_, { ids, decoded }) => {
      expect(tokenizer.decode(ids)).toBe(decoded);
      const stream = tokenizer.stream();
      expect(ids.map((id) => stream.push(id)).join('') + stream.flush()).toBe(decoded);
    },
  );

  it.each(cases.filter(({ idsWithoutSpecial }) => idsWithoutSpecial))(
    'takes $text as plain text where it is asked to',
    async (entry) => {
      expect(await tokenizer.encode(entry.text, { parseSpecial: false })).toEqual(entry.idsWithoutSpecial);
      expect(tokenizer.decode(entry.ids, { skipSpecial: true })).toBe(entry.decodedSkippingSpecial);
    },
  );

  it.each(partial)('decodes $ids, cut inside a character', ({ ids, decoded }) => {
    expect(tokenizer.decode(ids)).toBe(decoded);
  });

  it.each(chat.conversations)('encodes a rendered conversation: $rendered', async ({ rendered, ids }) => {
    expect(await tokenizer.encode(rendered)).toEqual(ids);
  });

  it('carries the chat template and the names of its special tokens', () => {
    expect(model.chatTemplate).toBe(chat.chatTemplate);
    expect(tokenizer).toMatchObject({ vocabSize: 49152, bosToken: '<|im_start|>', eosToken: '<|im_end|>' });
  });
});

describe('tokenizer of the stories260k directory', () => {
  it('encodes the recorded prompts, with BOS, and decodes the recorded completions', async () => {
    const { weights, tokenizer } = await openModel(join(FIXTURES, 'stories260k'));
    await weights.close();
    for (const prompt of readGolden('stories260k', 'golden.json').prompts) {
      expect(await tokenizer!.encode(prompt.text!)).toEqual(prompt.ids);
      expect(tokenizer!.decode(prompt.greedy)).toBe((prompt as { greedyText?: string }).greedyText);
    }
  });
});

function readJson(name: string): unknown {
  return JSON.parse(readFileSync(join(FIXTURES, 'smollm2-135m', name), 'utf8'));
}
