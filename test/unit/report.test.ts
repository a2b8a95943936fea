import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InputError } from '../../datasets/errors.js';
import { type Report, type ReportSource, writeReport } from '../../datasets/report.js';
import { count, duration, percent, rate } from '../../datasets/report-format.js';
import { compareRowKeys, rowKey } from '../../datasets/report-samples.js';
import { hostileMarkup, writeRun } from '../support/report-run.js';

const shape = { generated: 230, chosen: 120, shardRows: 64 };

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-report-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function reported(change: (source: ReportSource) => ReportSource = (source) => source): Promise<Report> {
  return writeReport(change(await writeRun(directory, shape)));
}

function read(name: string): string {
  return readFileSync(join(directory, name), 'utf8');
}

function samples(task: string): Record<string, unknown>[] {
  return read(`samples_${task}.jsonl`)
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('the report of a run', () => {
  it('is five files in its directory, and nothing of their making stays', async () => {
    await reported();
    expect(readdirSync(directory).sort()).toEqual([
      'outputs',
      'report.html',
      'report.md',
      'results.json',
      'samples_capitals-choice.jsonl',
      'samples_capitals.jsonl',
      'shards',
      'tasks',
    ]);
  });

  it('has the table that lm-eval prints of the same results', async () => {
    await reported();
    // Printed by lm_eval.utils.make_table (0.4.13) from the results.json of this run.
    expect(read('report.md')).toContain(`
|     Tasks     |Version|  Filter  |n-shot|  Metric   |   |Value |   |Stderr|
|---------------|------:|----------|-----:|-----------|---|-----:|---|-----:|
|capitals       |      1|first-word|     0|exact_match|↑  |0.8000|±  |0.0264|
|               |       |strict    |     0|exact_match|↑  |0.7957|±  |0.0266|
|capitals-choice|      1|none      |     0|acc        |↑  |0.5000|±  |0.0458|
|               |       |none      |     0|acc_norm   |↑  |0.5000|±  |0.0458|
`);
    expect(read('report.md')).toContain('23 of 350 rows have an error; they count as answered wrongly.');
  });

  it('has its figures under the keys of lm-eval', async () => {
    await reported();
    const results = JSON.parse(read('results.json')) as Record<string, Record<string, unknown>>;
    // By hand: 23 groups of ten rows have 8 right each; markup makes row 0 wrong where the whole answer counts.
    expect(results.results!.capitals).toMatchObject({
      alias: 'capitals',
      sample_len: 230,
      'exact_match,strict': 183 / 230,
      'exact_match,first-word': 184 / 230,
    });
    expect(results.results!['capitals-choice']).toMatchObject({ 'acc,none': 0.5 });
    expect(results).toMatchObject({
      versions: { capitals: 1, 'capitals-choice': 1 },
      'n-shot': { capitals: 0, 'capitals-choice': 0 },
      'n-samples': { capitals: { original: 230, effective: 230 } },
      higher_is_better: { capitals: { exact_match: true }, 'capitals-choice': { acc: true, acc_norm: true } },
      configs: {
        capitals: {
          output_type: 'generate_until',
          generation_kwargs: { until: ['\n'], max_gen_toks: 16, do_sample: false },
          filter_list: [
            { name: 'strict', filter: [{ function: 'remove_whitespace' }, { function: 'take_first' }] },
            {
              name: 'first-word',
              filter: [{ function: 'regex', regex_pattern: '(\\w+)' }, { function: 'take_first' }],
            },
          ],
        },
      },
      config: { model: 'zigzag', model_args: { pretrained: 'smollm2-135m-instruct' }, limit: null },
      date: 1795578000,
      zigzag: {
        rows: 350,
        errors: 23,
        tokens: { generated: 621 },
        seconds: 61.4,
        tasks: { 'capitals-choice': { chance: 1 / 3 } },
      },
    });
  });

  it('logs every row as lm-eval does, in the order of the dataset, one pass for each filter', async () => {
    await reported();
    const rows = samples('capitals');
    expect(rows.map((row) => [row.filter, row.doc_id])).toEqual(
      ['strict', 'first-word'].flatMap((filter) => Array.from({ length: 230 }, (_, index) => [filter, index])),
    );
    expect(rows[3]).toEqual({
      doc_id: 3,
      doc: { country: 'Kenya' },
      target: 'Nairobi',
      arguments: {
        gen_args_0: {
          arg_0: expect.stringMatching(/Q: What is the capital of Kenya\?\nA:$/),
          arg_1: { until: ['\n'], max_gen_toks: 16, do_sample: false, temperature: 0 },
        },
      },
      resps: [[' I do not know']],
      filtered_resps: ['I do not know'],
      filter: 'strict',
      metrics: ['exact_match'],
      // Python: sha256 of json.dumps(doc, indent=2), of the prompt and of the target.
      doc_hash: 'f3a1749a9a8a1faa13a35cae5639dcbd6bc9e6fa0d418e2c8eb30d8a2a96be26',
      prompt_hash: '177d599683df340204220f6e6f2dd9e9a1ef38a6b274f6a4358e4a279f6bf2ea',
      target_hash: '5bfc2e5513a487037e6abb8404385b6e0a5a1b6a05d038588f9efef0a46c85f1',
      exact_match: 0,
      row_id: 'capitals/3',
      error: null,
    });
    expect(samples('capitals-choice')[1]).toMatchObject({
      doc_id: 1,
      target: '1',
      arguments: { gen_args_0: { arg_1: ' Lima' }, gen_args_1: { arg_1: ' Tokyo' }, gen_args_2: { arg_1: ' Oslo' } },
      resps: [[['-6.5625']], [['-6.6875']], [['-1.0625']]],
      acc: 0,
      acc_norm: 0,
    });
  });

  it('does not depend on how the run was sharded', async () => {
    const { metrics } = await reported();
    const before = ['samples_capitals.jsonl', 'samples_capitals-choice.jsonl'].map(read);
    const whole = await writeReport(await writeRun(directory, { ...shape, shardRows: 1000 }));
    expect(whole.metrics).toEqual(metrics);
    expect(['samples_capitals.jsonl', 'samples_capitals-choice.jsonl'].map(read)).toEqual(before);
  });

  it('keeps markup of prompts and answers as text', async () => {
    await reported();
    const page = read('report.html');
    expect(page).toContain('&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;&lt;img src=&quot;');
    expect(page).toContain('&lt;b onclick=&quot;alert(1)&quot;&gt;bold&lt;/b&gt;');
    expect(page).not.toContain(hostileMarkup);
    expect(page.match(/<script/g)).toHaveLength(1);
    expect(page).not.toMatch(/<(?:img|b onclick|iframe|object|embed|form)|https?:\/\/(?!127\.0\.0\.1:9)|src=[^&]/);
  });

  it('shows the first rows and the first errors of a long task, and says how many there are', async () => {
    await reported();
    const page = read('report.html');
    // Rows 209, 219 and 229 have an error.
    expect(page).toContain('The first 200 of 230 rows and 3 more with an error; all of them are in the files below.');
    expect(page.match(/<details class="row /g)).toHaveLength(203 + 120);
    expect(page).toContain('All 120 rows.');
  });

  it('has no scores where a table was generated from, but rows, errors and answers', async () => {
    const { metrics, files } = await reported((source) => ({
      ...source,
      shards: source.shards.filter(({ shard }) => shard.task === 'capitals'),
      pipeline: {
        ...source.pipeline,
        work: {
          kind: 'table',
          source: { files: ['lines.csv'] },
          id: null,
          prompt: { system: null, template: '{{ line }}', chat: true, where: 'x.yaml:1' },
          generate: { maxNewTokens: 16, stop: [], temperature: 0, topK: 0, topP: 1 },
        },
      },
    }));
    expect(metrics).toEqual({ capitals: {} });
    expect(files.samples).toEqual([]);
    expect(JSON.parse(read('results.json'))).toMatchObject({ results: {}, zigzag: { rows: 230, errors: 23 } });
    expect(read('report.md')).not.toContain('## Scores');
    const page = read('report.html');
    expect(page).not.toContain('id="scores"');
    expect(page).toContain('Answered <span>180</span>');
    expect(page).toContain('Errors <span>23</span>');
  });

  it('tells no speed where parts were there already: their time is not known', async () => {
    await reported((source) => ({ ...source, totals: { ...source.totals, reusedShards: 2 } }));
    expect(JSON.parse(read('results.json'))).toMatchObject({ zigzag: { generationThroughput: null, reusedShards: 2 } });
    expect(read('report.md')).toContain('Computed in 1 min 01 s; 2 of 6 parts were there already.');
    expect(read('report.html')).toContain('2 of 6 shards were done before');
  });

  it('counts one shard as one', async () => {
    await reported((source) => ({ ...source, totals: { ...source.totals, shards: 1 } }));
    expect(read('report.html')).toContain('<dd class="note">1 shard</dd>');
  });

  it('says what a shard that went on in the middle did not compute again, and what went wrong', async () => {
    const recovered = {
      shards: 1,
      answers: 20,
      sequences: 41,
      tokensKept: 1204,
      promptTokensAgain: 8,
      generatedTokensAgain: 30,
      sweepsAgain: 2,
      periodSweeps: 6,
      positionsRead: 2000,
      positionsRebuilt: 12,
    };
    const notes = ['the disk was full'];
    await reported((source) => ({ ...source, totals: { ...source.totals, recovered, notes } }));
    expect(JSON.parse(read('results.json'))).toMatchObject({
      zigzag: { generationThroughput: null, recovered, notes },
    });
    const told = 'Interrupted, and one shard went on in the middle: 41 sequences resumed and 20 answers kept';
    expect(read('report.md')).toContain(told);
    expect(read('report.md')).toContain('Note: the disk was full.');
    expect(read('report.html')).toContain(told);
  });

  it('shows what was expected beside what it took, where that is known', async () => {
    const steps = {
      shards: 2,
      predicted: { products: 40, attention: 8, waiting: 0, all: 50 },
      measured: { products: 44, attention: 6, waiting: 0.5, all: 61.4 },
    };
    await reported((source) => ({ ...source, steps }));
    expect(JSON.parse(read('results.json')).zigzag.steps).toEqual(steps);
    expect(read('report.md')).toMatch(/\|products and norms\s*\|\s*40 s\|\s*44 s\|\s*10 %\|/);
    expect(read('report.md')).toMatch(/\|waiting for the disk\|\s*0.0 s\|\s*0.5 s\|\s*\|/);
    expect(read('report.html')).toContain('<h2>Expected and measured</h2>');
  });

  it('is refused where a part is missing, with its name, and leaves nothing half-made', async () => {
    const source = await writeRun(directory, shape);
    rmSync(join(directory, source.shards[2]!.part));
    await expect(writeReport(source)).rejects.toThrow(InputError);
    await expect(writeReport(source)).rejects.toThrow(/outputs\/part-00002\.parquet/);
    expect(readdirSync(directory).sort()).toEqual(['outputs', 'shards', 'tasks']);
  });

  it('is refused where it cannot be written', async () => {
    const source = await writeRun(directory, shape);
    mkdirSync(join(directory, 'report.html', 'taken'), { recursive: true });
    await expect(writeReport(source)).rejects.toThrow(/cannot write .*report\.html: a directory has this name/);
  });
});

describe('rows', () => {
  it('are in the order of their numbers, then of their ids', () => {
    const ids = ['t/10', 't/9', 't/b', 't/a', 't/0', 'other/3'];
    const keys = ids.map((rowId) => rowKey({ rowId, task: 't' })).sort(compareRowKeys);
    expect(keys).toEqual([0, 9, 10, 'a', 'b', 'other/3']);
  });

  it('keep an id that only looks like a number', () => {
    expect(rowKey({ rowId: 't/007', task: 't' })).toBe('007');
    expect(rowKey({ rowId: 't/12345678901234567890', task: 't' })).toBe('12345678901234567890');
  });
});

describe('numbers in a report', () => {
  it.each([
    [count(0), '0'],
    [count(999), '999'],
    [count(1319), '1,319'],
    [count(1234567), '1,234,567'],
    [percent(0.6249), '62.5 %'],
    [percent(1), '100.0 %'],
    [duration(0), '0.0 s'],
    [duration(9.96), '10 s'],
    [duration(41.4), '41 s'],
    [duration(59.7), '1 min 00 s'],
    [duration(185), '3 min 05 s'],
    [duration(7620), '2 h 07 min'],
    [rate(0.5123), '0.512'],
    [rate(41.26), '41.3'],
    [rate(99.96), '100'],
    [rate(1161.2), '1,161'],
  ])('%s', (shown, expected) => expect(shown).toBe(expected));
});
