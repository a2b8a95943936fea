import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type ModelText, type PromptRequest, promptRows } from '../../datasets/requests.js';
import { loadPipeline } from '../../datasets/spec.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-requests-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const model: ModelText = {
  chatTemplate:
    '{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}',
  bosToken: '<s>',
  eosToken: '</s>',
  countTokens: async (texts) => texts.map((text) => text.length),
};

async function requestsOf(yaml: string, table: string, given: Partial<ModelText> = {}): Promise<PromptRequest[]> {
  writeFileSync(join(directory, 'rows.jsonl'), table);
  writeFileSync(join(directory, 'p.yaml'), `model: m\n${yaml}`);
  const requests: PromptRequest[] = [];
  for await (const request of promptRows(loadPipeline(join(directory, 'p.yaml')), { ...model, ...given }))
    requests.push(request);
  return requests;
}

const two = '{"id":"x","text":"one","n":1}\n{"id":7,"text":"three","n":2}\n';
const plain = 'source: { path: rows.jsonl }\nprompt: { template: "{{ text }}!" }\n';
const named = plain.replace('rows.jsonl }', 'rows.jsonl, id: id }');

describe('requests of a table', () => {
  it('carry prompt, hash, tokens and the columns asked for', async () => {
    const [first, second] = await requestsOf(
      `${named}columns: [n]\ngenerate: { maxNewTokens: 4, stop: ";" }\nseed: 5\n`,
      two,
    );
    expect(first).toEqual({
      row: {
        rowId: 'p/x',
        task: 'p',
        prompt: 'one!',
        promptSha256: createHash('sha256').update('one!').digest('hex'),
        promptTokens: 4,
        options: null,
        target: null,
        columns: { n: 1 },
        error: null,
      },
      ask: { kind: 'generate', maxNewTokens: 4, stop: [';'], temperature: 0, topK: 0, topP: 1, seed: 5 },
    });
    expect(second?.row.rowId).toBe('p/7');
  });

  it.each([
    [
      'with a system message',
      '{ chat: true, system: Be brief., template: "{{ text }}" }',
      '<s><system>Be brief.<user>one<assistant>',
    ],
    ['without one', '{ chat: true, template: "{{ text }}" }', '<s><user>one<assistant>'],
  ])('go through the chat template %s', async (_, prompt, expected) => {
    const [request] = await requestsOf(`source: { path: rows.jsonl }\nprompt: ${prompt}\n`, two);
    expect(request?.row.prompt).toBe(expected);
  });

  it('are numbered from 0 where no column names them, and end at the limit', async () => {
    const requests = await requestsOf(`${plain}limit: 3\n`, '{"text":"a"}\n'.repeat(9));
    expect(requests.map(({ row }) => row.rowId)).toEqual(['p/0', 'p/1', 'p/2']);
  });

  it('are all there, in order, when there are many', async () => {
    const table = Array.from({ length: 1000 }, (_, i) => `{"text":"${i}"}\n`).join('');
    expect((await requestsOf(plain, table)).map(({ row }) => row.prompt)).toEqual(
      Array.from({ length: 1000 }, (_, i) => `${i}!`),
    );
  });
});

describe('one bad row is an error of that row alone', () => {
  it.each([
    ['a malformed line', '{"id":', 'p/rows.jsonl:2', /^rows\.jsonl:2: not valid JSON/],
    [
      'a missing column',
      '{"id":"y","txt":"b"}',
      'p/y',
      /^rows\.jsonl:2: .*p\.yaml:3: prompt\.template: there is no column "text"; did you mean "txt"/,
    ],
    ['no id', '{"text":"b"}', 'p/rows.jsonl:2', /^rows\.jsonl:2: the id column "id" has no text or number in it/],
  ])('%s', async (_, line, rowId, message) => {
    const requests = await requestsOf(named, `{"id":"x","text":"a"}\n${line}\n{"id":"z","text":"c"}\n`);
    expect(requests.map(({ row }) => [row.rowId, row.error === null])).toEqual([
      ['p/x', true],
      [rowId, false],
      ['p/z', true],
    ]);
    expect(requests[1]?.row.error).toMatch(message);
  });
});

it('a key that the first row leaves out is missing from that row alone', async () => {
  const requests = await requestsOf(`${plain}columns: [n]\n`, `{"id":1}\n${two}`);
  expect(requests.map(({ row }) => [row.error === null, row.columns])).toEqual([
    [false, { n: null }],
    [true, { n: 1 }],
    [true, { n: 2 }],
  ]);
});

describe('a mistake that concerns all rows ends the plan', () => {
  it.each<[string, string, string, Partial<ModelText>, RegExp]>([
    [
      'an id twice',
      named,
      `${two}{"id":"7","text":"c"}\n`,
      {},
      /^rows\.jsonl:3: the id "7" was already at rows\.jsonl:2; ids must differ/,
    ],
    [
      'an id too large to be exact',
      named,
      '{"id":12345678901234567890,"text":"a"}\n',
      {},
      /^rows\.jsonl:1: the id \d+ is too large to be exact as a number; write ids of this size as text/,
    ],
    [
      'a column of the template',
      plain.replace('text', 'txet'),
      two,
      {},
      /p\.yaml:3: prompt\.template: there is no column "txet"; did you mean "text"\? The columns are id, text, n/,
    ],
    [
      'a column of the output',
      `${plain}columns: [nn]\n`,
      two,
      {},
      /p\.yaml: there is no column "nn"; the columns are id, text, n/,
    ],
    [
      'the column of the id',
      plain.replace('rows.jsonl }', 'rows.jsonl, id: key }'),
      two,
      {},
      /there is no column "key"/,
    ],
    ['a broken template', plain.replace('{{ text }}', '{{ text'), two, {}, /p\.yaml:3: prompt\.template: /],
    [
      'no chat template',
      plain.replace('{ template', '{ chat: true, template'),
      two,
      { chatTemplate: null },
      /p\.yaml:3: .*the model has no chat template/,
    ],
    [
      'a column that a thousand rows do not have',
      plain.replace('text', 'txet'),
      two.repeat(500),
      {},
      /there is no column "txet"/,
    ],
    ['no rows', plain, '\n', {}, /rows\.jsonl: no rows in it; p has nothing to ask/],
  ])('%s', async (_, yaml, table, given, message) => {
    await expect(requestsOf(yaml, table, given)).rejects.toThrow(message);
    await expect(requestsOf(yaml, table, given)).rejects.toMatchObject({ name: 'InputError' });
  });
});
