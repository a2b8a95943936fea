import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { promptRows } from '../../datasets/requests.js';
import type { PromptRow } from '../../datasets/rows.js';
import type { Pipeline } from '../../datasets/spec.js';
import { loadTask } from '../../datasets/tasks.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-tasks-'));
beforeAll(() => {
  writeFileSync(join(directory, 'rows.jsonl'), '{"q":"2+2","a":"4","options":["3","4"],"gold":1}\n');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const head = 'task: t\ndataset_path: json\ndataset_kwargs: { data_files: { test: rows.jsonl } }\ntest_split: test\n';
const words = 'doc_to_text: q\ndoc_to_target: a\n';
const choice = 'output_type: multiple_choice\ndoc_to_text: q\ndoc_to_choice: options\ndoc_to_target: gold\n';

function load(yaml: string, numFewshot?: number) {
  const path = join(directory, 't.yaml');
  writeFileSync(path, yaml);
  return loadTask(path, numFewshot);
}

describe('what lm-eval leaves to defaults', () => {
  it('a generation stops at the delimiter of examples, greedily, within 256 tokens', () => {
    const task = load(head + words);
    expect(task.generation).toEqual({ maxNewTokens: 256, stop: ['\n\n'], temperature: 0, topK: 0, topP: 1 });
    expect(task.wording).toMatchObject({ targetDelimiter: ' ', fewshotDelimiter: '\n\n', choice: null });
    expect(task.fewshot).toMatchObject({ count: 0, sampler: 'default' });
    expect(task.metrics).toEqual([
      {
        metric: 'exact_match',
        ignoreCase: false,
        ignorePunctuation: false,
        ignoreNumbers: false,
        regexesToIgnore: [],
        higherIsBetter: true,
      },
    ]);
    expect(task.filters).toEqual([{ name: 'none', filters: [{ filter: 'take_first' }] }]);
    expect(JSON.parse(JSON.stringify(task))).toEqual(task);
  });

  it('a choice is scored by acc and acc_norm', () => {
    expect(load(head + choice).metrics).toEqual([
      { metric: 'acc', higherIsBetter: true },
      { metric: 'acc_norm', higherIsBetter: true },
    ]);
  });
});

describe('what a task file says', () => {
  it.each([
    ['do_sample: false beats a temperature', '{ do_sample: false, temperature: 0.7 }', { temperature: 0 }],
    [
      'a temperature alone samples',
      '{ temperature: 0.7, top_k: 5, top_p: 0.9 }',
      { temperature: 0.7, topK: 5, topP: 0.9 },
    ],
    ['one stop string', '{ until: "\\n", max_gen_toks: 8 }', { stop: ['\n'], maxNewTokens: 8 }],
    ['no stop strings', '{ until: [] }', { stop: [] }],
  ])('%s', (_, kwargs, expected) => {
    expect(load(`${head}${words}generation_kwargs: ${kwargs}\n`).generation).toMatchObject(expected);
  });

  it('metrics and filters with their options', () => {
    const task = load(`${head}${words}metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    regexes_to_ignore: [",", '\\$']
filter_list:
  - name: strict-match
    filter:
      - { function: regex, regex_pattern: "#### (\\\\-?[0-9\\\\.\\\\,]+)" }
      - function: take_first
  - name: flexible-extract
    filter: [{ function: regex, group_select: -1, regex_pattern: '(-?[$0-9.,]{2,})|(-?[0-9]+)' }, { function: remove_whitespace }]
metadata: { version: 3.0 }
`);
    expect(task.metrics).toMatchObject([{ ignoreCase: true, ignorePunctuation: false, regexesToIgnore: [',', '\\$'] }]);
    expect(task.filters).toEqual([
      {
        name: 'strict-match',
        filters: [
          { filter: 'regex', pattern: '#### (\\-?[0-9\\.\\,]+)', group: 0, fallback: '[invalid]' },
          { filter: 'take_first' },
        ],
      },
      {
        name: 'flexible-extract',
        filters: [
          { filter: 'regex', pattern: '(-?[$0-9.,]{2,})|(-?[0-9]+)', group: -1, fallback: '[invalid]' },
          { filter: 'remove_whitespace' },
        ],
      },
    ]);
    expect(task.version).toBe('3');
  });

  it.each([
    ['fewshot_split', 'fewshot_split: train\ntraining_split: other\n', 'train.jsonl', false],
    ['training_split', 'training_split: train\nvalidation_split: test\n', 'train.jsonl', false],
    ['the rows asked, for want of others', '', 'rows.jsonl', true],
  ])('examples come from %s', (_, splits, file, fromAskedRows) => {
    writeFileSync(join(directory, 'train.jsonl'), '{}\n');
    const yaml =
      head.replace('{ test: rows.jsonl }', '{ test: rows.jsonl, train: train.jsonl, other: rows.jsonl }') +
      words +
      splits;
    expect(load(yaml, 2).fewshot).toMatchObject({
      count: 2,
      examples: { files: [join(directory, file)] },
      fromAskedRows,
    });
  });

  it('a list of files is the split train', () => {
    expect(
      load(
        `task: t\ndataset_path: json\ndataset_kwargs: { data_files: [rows.jsonl] }\nvalidation_split: train\n${words}`,
      ).data,
    ).toEqual({
      files: [join(directory, 'rows.jsonl')],
      format: 'json',
    });
  });
});

describe('what is not supported is refused by name, with its line', () => {
  it.each([
    [
      'an unknown key',
      `${head}${words}doc_to_txt: q\n`,
      /t\.yaml:7: unknown key: "doc_to_txt"; did you mean "doc_to_text"\?/,
    ],
    ['include', `include: _base.yaml\n${head}${words}`, /t\.yaml:1: include: not supported: copy the keys/],
    ['a function', `${head}${words}process_docs: !function utils.process\n`, /t\.yaml:7: the tag !function runs code/],
    ['process_docs', `${head}${words}process_docs: null\n`, /t\.yaml:7: process_docs: not supported/],
    [
      'data of the hub',
      `task: t\ndataset_path: openai/gsm8k\n${words}`,
      /t\.yaml:2: dataset_path: found "openai\/gsm8k"; data is read from local files only/,
    ],
    [
      'another output type',
      `${head}${words}output_type: loglikelihood_rolling\n`,
      /t\.yaml:7: output_type: needs "generate_until" or "multiple_choice", found "loglikelihood_rolling"/,
    ],
    [
      'another metric',
      `${head}${words}metric_list:\n  - metric: bleu\n`,
      /t\.yaml:8: metric_list: with generate_until there is no metric "bleu"; known: exact_match/,
    ],
    [
      'a metric of the other output type',
      `${head}${choice}metric_list: [{ metric: exact_match }]\n`,
      /with multiple_choice there is no metric "exact_match"; known: acc, acc_norm/,
    ],
    [
      'an option of a metric',
      `${head}${words}metric_list:\n  - metric: exact_match\n    ignore_cas: true\n`,
      /t\.yaml:9: unknown key: "ignore_cas"; did you mean "ignore_case"\?/,
    ],
    [
      'another aggregation',
      `${head}${words}metric_list:\n  - metric: exact_match\n    aggregation: median\n`,
      /t\.yaml:9: metric_list\.0\.aggregation: needs "mean", found "median"/,
    ],
    [
      'another filter',
      `${head}${words}filter_list:\n  - name: n\n    filter:\n      - function: majority_vote\n`,
      /t\.yaml:10: filter_list: there is no filter "majority_vote"; known: regex, take_first/,
    ],
    [
      'a broken expression',
      `${head}${words}filter_list:\n  - name: n\n    filter:\n      - function: regex\n        regex_pattern: "(a"\n`,
      /t\.yaml:11: regex_pattern: the pattern "\(a"/,
    ],
    ['repeats', `${head}${words}repeats: 5\n`, /t\.yaml:7: repeats: needs 1, found 5/],
    [
      'another sampler',
      `${head}${words}fewshot_config: { sampler: balanced }\n`,
      /t\.yaml:7: fewshot_config\.sampler: needs "default" or "first_n", found "balanced"/,
    ],
    [
      'a split that is not there',
      `${head.replace('test_split: test', 'test_split: tset')}${words}`,
      /t\.yaml:4: test_split: no split "tset" in data_files; there is test/,
    ],
    ['no split to ask', `${head.replace('test_split: test\n', '')}${words}`, /needs test_split or validation_split/],
    [
      'a file that is not there',
      `${head.replace('rows', 'rws')}${words}`,
      /t\.yaml:3: data_files: there is no file .*rws\.jsonl/,
    ],
    [
      'choices without choices',
      `${head}${words}output_type: multiple_choice\n`,
      /t\.yaml:7: output_type: multiple_choice needs doc_to_choice/,
    ],
    [
      'a newline in single quotes',
      `${head}${words}generation_kwargs:\n  until: ['\\n']\n`,
      /t\.yaml:8: until: a backslash and an "n", not a newline/,
    ],
    [
      'sampling at temperature 0',
      `${head}${words}generation_kwargs: { do_sample: true }\n`,
      /t\.yaml:7: do_sample: true needs a temperature above 0/,
    ],
  ])('%s', (_, yaml, message) => {
    expect(() => load(yaml)).toThrow(message);
    expect(() => load(yaml)).toThrow(expect.objectContaining({ name: 'InputError' }));
  });
});

describe('rows that cannot be asked', () => {
  it.each([
    [
      'a right answer that is no option',
      choice,
      { options: ['a', 'b'], gold: 'c' },
      /doc_to_target: the right answer "c" is not among the choices \["a","b"\]/,
    ],
    ['an index past the options', choice, { options: ['a', 'b'], gold: 2 }, /there is no choice 2; there are 2/],
    [
      'options that are no list',
      choice,
      { options: 'a, b', gold: 0 },
      /t\.yaml:7: doc_to_choice: needs a list of choices, found "a, b"/,
    ],
    ['no options', choice, { options: [], gold: 0 }, /the list of choices is empty/],
    ['a missing value', words, { a: null }, /has no value in this row/],
    ['several right answers', words, { a: ['x', 'y'] }, /several right answers are not supported, found \["x","y"\]/],
    ['a missing column', words, { q: undefined }, /rows\.jsonl:2: .*t\.yaml:5: doc_to_text: this row has no "q"/],
  ])('%s is an error of that row alone', async (_, wording, change, message) => {
    const good = { q: 'q', a: 'a', options: ['a', 'b'], gold: 1 };
    writeFileSync(
      join(directory, 'rows.jsonl'),
      [good, { ...good, ...change }, good].map((row) => `${JSON.stringify(row)}\n`).join(''),
    );
    const rows = await ask(pipelineOf(load(head + wording)));
    expect(rows.map(({ rowId, error }) => [rowId, error === null])).toEqual([
      ['t/0', true],
      ['t/1', false],
      ['t/2', true],
    ]);
    expect(rows[1]?.error).toMatch(message);
    expect(rows[1]).toMatchObject({ prompt: '', options: null, promptTokens: 0 });
  });

  it.each([
    [
      'a column that no row has',
      `${head}doc_to_text: qestion\ndoc_to_target: a\n`,
      /t\.yaml:5: doc_to_text: there is no column "qestion"/,
    ],
    ['one context for each choice', `${head}${choice.replace('doc_to_text: q', 'doc_to_text: "{{gold}}"')}`, undefined],
  ])('%s concerns all', async (_, yaml, message) => {
    writeFileSync(join(directory, 'rows.jsonl'), '{"q":"q","a":"a","options":["a","b"],"gold":1}\n');
    if (message !== undefined) await expect(ask(pipelineOf(load(yaml)))).rejects.toThrow(message);
    else expect((await ask(pipelineOf(load(yaml))))[0]?.error).toMatch(/one context for each choice is not supported/);
  });
});

function pipelineOf(task: ReturnType<typeof load>): Pipeline {
  return {
    name: 'p',
    path: 'p.yaml',
    model: 'm',
    work: { kind: 'tasks', tasks: [task], applyChatTemplate: false, fewshotAsMultiturn: false },
    engine: { device: 'cpu', policy: 'auto', backend: 'onnx' },
    runDir: '/nowhere',
    limit: null,
    seed: 1234,
    shardRows: 10,
    columns: [],
  };
}

async function ask(pipeline: Pipeline): Promise<PromptRow[]> {
  const rows: PromptRow[] = [];
  const model = {
    chatTemplate: null,
    bosToken: '',
    eosToken: '',
    countTokens: async (texts: readonly string[]) => texts.map((text) => text.length),
  };
  for await (const { row } of promptRows(pipeline, model)) rows.push(row);
  return rows;
}
