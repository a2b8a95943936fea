import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LoadOptions, loadPipeline } from '../../datasets/spec.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-spec-'));
beforeAll(() => {
  mkdirSync(join(directory, 'tasks'));
  writeFileSync(join(directory, 'lines.csv'), 'line,input\n1,a\n');
  writeFileSync(join(directory, 'tasks', 'mine.yaml'), task('mine'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function task(name: string): string {
  return [
    `task: ${name}`,
    'dataset_path: csv',
    `dataset_kwargs: { data_files: { test: ${join(directory, 'lines.csv')} } }`,
    'test_split: test',
    'doc_to_text: input',
    'doc_to_target: line',
    '',
  ].join('\n');
}

function load(yaml: string, options: LoadOptions = {}) {
  const path = join(directory, 'p.yaml');
  writeFileSync(path, yaml);
  return loadPipeline(path, options);
}

const table = 'model: tiny\nsource: { path: lines.csv, id: line }\nprompt: { template: "{{ input }}" }\n';

describe('a pipeline resolves to plain data', () => {
  it('of a table, with the defaults of everything left out', () => {
    const pipeline = load(table);
    expect(pipeline).toEqual({
      name: 'p',
      path: join(directory, 'p.yaml'),
      model: 'tiny',
      work: {
        kind: 'table',
        source: { files: [join(directory, 'lines.csv')] },
        id: 'line',
        prompt: {
          system: null,
          template: '{{ input }}',
          chat: false,
          where: `${join(directory, 'p.yaml')}:3: prompt.template`,
        },
        generate: { maxNewTokens: 256, stop: [], temperature: 0, topK: 0, topP: 1 },
      },
      engine: { device: 'cpu', policy: 'auto', backend: 'onnx' },
      runDir: resolve('runs/p'),
      limit: null,
      seed: 1234,
      shardRows: 512,
      columns: [],
    });
    expect(JSON.parse(JSON.stringify(pipeline))).toEqual(pipeline);
  });

  it('of tasks, found beside the file and among those of the package', () => {
    const { work, columns } = load('model: tiny\ntasks: [mine, capitals]\nnumFewshot: 1\ncolumns: country\n');
    expect(work.kind === 'tasks' && work.tasks.map(({ name, fewshot }) => [name, fewshot.count])).toEqual([
      ['mine', 1],
      ['capitals', 1],
    ]);
    expect(columns).toEqual(['country']);
  });

  it.each([
    ['a name', 'smollm2-135m-instruct', 'smollm2-135m-instruct'],
    ['owner/name', 'HuggingFaceTB/SmolLM2-135M', 'HuggingFaceTB/SmolLM2-135M'],
    ['a path with a dot', './model', join(directory, 'model')],
    ['a GGUF file', 'models/m.gguf', join(directory, 'models/m.gguf')],
    ['a directory that is there', 'tasks/../tasks', join(directory, 'tasks')],
  ])('a model given as %s', (_, given, model) => {
    expect(load(table.replace('tiny', given)).model).toBe(model);
  });
});

describe('settings of the engine', () => {
  it('are what was said, with sizes in bytes and paths from here', () => {
    const engine =
      'engine: { hostMemory: 550MB, diskMemory: 16GiB, offloadDir: off, weightBits: 8, overlap: false, contextTokens: 99 }\n';
    expect(load(table + engine).engine).toEqual({
      device: 'cpu',
      policy: 'auto',
      backend: 'onnx',
      hostMemoryBytes: 550_000_000,
      diskMemoryBytes: 17_179_869_184,
      offloadDir: resolve('off'),
      weightBits: 8,
      overlap: false,
      contextTokens: 99,
    });
    expect(load(`${table}engine: { hostMemory: 4096 }\n`).engine.hostMemoryBytes).toBe(4096);
  });
});

describe('settings of the command line', () => {
  it('win over those of the file, the last one first', () => {
    const overrides = [
      'engine.threads=2',
      'engine.threads=4',
      'generate.stop=["\\n", END]',
      'limit=5',
      'model=./m.gguf',
    ];
    const pipeline = load(table, { overrides, runDir: 'elsewhere' });
    expect(pipeline.engine.threads).toBe(4);
    expect(pipeline.work).toMatchObject({ generate: { stop: ['\n', 'END'] } });
    expect(pipeline.limit).toBe(5);
    expect(pipeline.runDir).toBe(resolve('elsewhere'));
    // Beside the pipeline file is where its own paths lead; what is typed is meant from here.
    expect(pipeline.model).toBe(resolve('m.gguf'));
  });

  it.each([
    ['engine.thraeds=4', /^--set engine\.thraeds=4: unknown key in engine: "thraeds"; did you mean "threads"\?$/],
    ['engine.hostMemory=much', /engine\.hostMemory: needs a size such as 550MB, 16GiB or 1\.5g .*, found "much"$/],
    ['engine.weightBits=3', /engine\.weightBits: needs 4 or 8 or 16 or 32, found 3$/],
    ['engine.threads=four', /^--set engine\.threads=four: engine\.threads: needs a number, found "four"$/],
    ['threads', /^--set threads: needs key=value/],
    ['model.name=x', /^--set model\.name=x: "model" is "tiny" and has no keys inside/],
    ['generate.stop=[', /^--set generate\.stop=\[: the value is not valid YAML/],
  ])('%s is refused', (override, message) => {
    expect(() => load(table, { overrides: [override] })).toThrow(message);
  });
});

describe('a mistake is named with its line, its key, what was found and what to change', () => {
  it.each([
    ['a misspelt key', `${table}lmit: 3\n`, /p\.yaml:4: unknown key: "lmit"; did you mean "limit"\?/],
    [
      'a key in snake case',
      `${table}generate:\n  max_new_tokens: 3\n`,
      /p\.yaml:5: unknown key in generate: "max_new_tokens"; did you mean "maxNewTokens"\?/,
    ],
    ['a key like no other', `${table}xyzzy: 3\n`, /p\.yaml:4: unknown key: "xyzzy"; known: name, model, tasks/],
    ['a text for a number', `${table}limit: many\n`, /p\.yaml:4: limit: needs a number, found "many"/],
    ['a fraction', `${table}limit: 1.5\n`, /p\.yaml:4: limit: needs a whole number, found 1\.5/],
    [
      'a number for a stop string',
      `${table}generate: { stop: [1] }\n`,
      /generate\.stop: needs text or a list of text, found \[1\]/,
    ],
    ['too small a number', `${table}shardRows: 0\n`, /p\.yaml:4: shardRows: needs a number of at least 1, found 0/],
    ['topP above 1', `${table}generate: { topP: 1.5 }\n`, /generate\.topP: needs a number of at most 1, found 1\.5/],
    [
      'an unknown format',
      table.replace('id: line', 'format: exel'),
      /p\.yaml:2: source\.format: needs "jsonl" or .*found "exel"/,
    ],
    [
      'another device',
      `${table}engine: { device: "cuda:0" }\n`,
      /p\.yaml:4: engine\.device: needs "cpu", found "cuda:0"/,
    ],
    ['no model', table.replace('model: tiny\n', ''), /p\.yaml:1: model: missing; it needs text/],
    [
      'no template',
      'model: m\nsource: { path: lines.csv }\nprompt:\n  chat: true\n',
      /p\.yaml:3: prompt\.template: missing; it needs text/,
    ],
    ['nothing to do', 'model: m\n', /p\.yaml:1: nothing to do; add tasks, or a source with a prompt/],
    ['tasks and a source', `${table}tasks: [mine]\n`, /p\.yaml:2: source: a pipeline has either tasks or a source/],
    ['a source without a prompt', 'model: m\nsource: { path: lines.csv }\n', /p\.yaml:2: source: needs a prompt/],
    [
      'a prompt with tasks',
      'model: m\ntasks: mine\nprompt: { template: x }\n',
      /p\.yaml:3: prompt: goes with a source/,
    ],
    [
      'a system message without chat',
      table.replace('{ template', '{ system: s, template'),
      /p\.yaml:3: prompt\.system: needs prompt\.chat: true/,
    ],
    ['a missing file', table.replace('lines.csv', 'lnes.csv'), /p\.yaml:2: source\.path: there is no file .*lnes\.csv/],
    [
      'an unknown task',
      'model: m\ntasks:\n  - mine\n  - captials\n',
      /p\.yaml:4: tasks: no task "captials" in .*did you mean "capitals"\?/,
    ],
    ['a task twice', 'model: m\ntasks: [mine, mine]\n', /p\.yaml:2: tasks: "mine" is there twice/],
    ['a missing task file', 'model: m\ntasks: [other/x.yaml]\n', /p\.yaml:2: tasks: there is no file .*x\.yaml/],
    ['broken YAML', 'model: m\n  tasks: [\n', /p\.yaml:\d: not valid YAML/],
    ['a key twice', 'model: m\nmodel: n\n', /p\.yaml:2: not valid YAML: Map keys must be unique/],
    ['a list', '- model: m\n', /p\.yaml:1: a pipeline is made of keys/],
  ])('%s', (_, yaml, message) => {
    expect(() => load(yaml)).toThrow(message);
    expect(() => load(yaml)).toThrow(expect.objectContaining({ name: 'InputError' }));
  });

  it('names all mistakes at once', () => {
    expect(() => load(`${table}limit: 0\nsed: 1\n`)).toThrow(
      /:4: limit: .*\n.*:5: unknown key: "sed"; did you mean "seed"\?/,
    );
  });

  it('a pipeline that is not there', () => {
    expect(() => loadPipeline(join(directory, 'absent.yaml'))).toThrow(/absent\.yaml: no such file/);
  });
});

describe('the pipelines that come with the package', () => {
  it.each(['quickstart', 'extract'])('%s loads', (name) => {
    const pipeline = loadPipeline(join(process.cwd(), 'pipelines', `${name}.yaml`));
    expect(pipeline.model).toBe('smollm2-135m-instruct');
  });

  it('ask for 200 capitals, and never for one that is shown as an example', () => {
    const rows = readFileSync('pipelines/data/capitals.csv', 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(','));
    expect(rows.length).toBe(200);
    expect(new Set(rows.map(([code]) => code)).size).toBe(200);
    for (const [, country, capital, ...options] of rows) {
      expect(options.length, country).toBe(4);
      expect(new Set(options).size, country).toBe(4);
      expect(options, country).toContain(capital);
      expect(['France', 'Japan', 'Egypt', 'Peru', 'Canada']).not.toContain(country);
    }
  });
});
