import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { prepareRunDirectory, readRunFile } from '../../activities/run-file.js';
import { InputError } from '../../datasets/errors.js';
import { loadPipeline } from '../../datasets/spec.js';
import { FIXTURES } from '../support/golden.js';
import { temporaryDirectory } from '../support/temporal.js';

const directory = temporaryDirectory();
const cacheDir = join(directory, 'cache');
const model = join(FIXTURES, 'stories260k');
const pipelinePath = join(directory, 'pipeline.yaml');
const runDir = join(directory, 'run');

const TABLE = `
model: ${model}
source: { path: lines.csv }
prompt: { template: "{{ input }}" }
generate: { maxNewTokens: 4, temperature: 0.5 }
`;
const TASK = `
model: ${model}
tasks: [./task.yaml]
`;
const TASK_FILE = `
task: capitals
dataset_path: csv
dataset_kwargs: { data_files: { test: lines.csv } }
test_split: test
doc_to_text: "{{ input }}"
doc_to_target: "{{ input }}"
output_type: generate_until
metric_list: [{ metric: exact_match }]
`;

beforeEach(() => {
  rmSync(runDir, { recursive: true, force: true });
  writeFileSync(join(directory, 'lines.csv'), 'input\nOnce\n');
  writeFileSync(join(directory, 'task.yaml'), TASK_FILE);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('a run directory', () => {
  it('is known again by the same pipeline, wherever its files lie', async () => {
    const first = await prepare(TABLE);
    mkdirSync(join(directory, 'moved'), { recursive: true });
    writeFileSync(join(directory, 'moved', 'same.csv'), 'input\nOnce\n');
    const again = await prepare(TABLE.replace('lines.csv', 'moved/same.csv'));
    expect(again.fingerprint).toBe(first.fingerprint);
    expect(again.workflowId).toBe(first.workflowId);
    expect(readRunFile(runDir)).toEqual(JSON.parse(JSON.stringify(again)));
  });

  it.each([
    ['how rows are divided among shards', [TABLE, `${TABLE}shardRows: 7\n`]],
    ['threads and batches', [TABLE, `${TABLE}engine: { threads: 1, gpuBatchSize: 3 }\n`]],
    ['who shares a sweep, and when reads begin', [TABLE, `${TABLE}engine: { schedule: block, overlap: false }\n`]],
    ['where weights lie', [TABLE, `${TABLE}engine: { hostMemory: 20MB, weightBits: 32, contextTokens: 99 }\n`]],
    [
      'where rounded weights lie',
      [`${TABLE}engine: { weightBits: 16 }\n`, `${TABLE}engine: { hostMemory: 20MB, diskMemory: 1g, offloadDir: x }\n`],
    ],
  ])('does not care about %s', async (_, [before, now]) => {
    const first = await prepare(before as string);
    expect((await prepare(now as string)).fingerprint).toBe(first.fingerprint);
  });

  it('does not care how answers are scored, and knows the new way', async () => {
    const first = await prepare(TASK);
    const metrics = '[{ metric: exact_match, ignore_case: true }]';
    writeFileSync(join(directory, 'task.yaml'), TASK_FILE.replace('[{ metric: exact_match }]', metrics));
    const again = await prepare(TASK);
    expect(again.fingerprint).toBe(first.fingerprint);
    expect(JSON.stringify(readRunFile(runDir).pipeline)).not.toBe(JSON.stringify(first.pipeline));
  });

  it.each([
    ['sampling', TABLE.replace('0.5', '0.6'), /generate\.temperature \(was 0\.5, is 0\.6\)/],
    ['the seed', `${TABLE}seed: 8\n`, /seed \(was 1234, is 8\)/],
    ['the template', TABLE.replace('{{ input }}', 'Say {{ input }}'), /prompt\.template/],
    ['the backend', `${TABLE}engine: { backend: reference }\n`, /engine numerics/],
    ['weights that a store rounds', `${TABLE}engine: { hostMemory: 20MB }\n`, /weight bits \(was absent, is 16\)/],
    ['weights of fewer bits', `${TABLE}engine: { weightBits: 4 }\n`, /weight bits \(was absent, is 4\)/],
    ['the rows asked', `${TABLE}limit: 1\n`, /limit \(was none, is 1\)/],
    ['the model', TABLE.replace(model, join(FIXTURES, 'models', 'llama')), /model/],
    ['the kind of work', TASK, /tasks/],
  ])('refuses another run, and names %s as what differs', async (_, now, message) => {
    const before = await prepare(TABLE);
    const failure = prepare(now);
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toThrow(message);
    await expect(failure).rejects.toThrow(/--run-dir/);
    expect(readRunFile(runDir)).toEqual(JSON.parse(JSON.stringify(before)));
  });

  it('refuses other data of the same name', async () => {
    await prepare(TABLE);
    writeFileSync(join(directory, 'lines.csv'), 'input\nTwice\n');
    await expect(prepare(TABLE)).rejects.toThrow(/different are: source/);
  });

  it.each([
    ['is not there', undefined, /is not a run directory: its run\.json is not there/],
    ['is damaged', '{"version": 1,', /is not valid JSON/],
    ['is of another version', '{"version": 99}', /needs version 1, found 99/],
  ])('is refused where its run.json %s', (_, text, message) => {
    mkdirSync(runDir, { recursive: true });
    if (text !== undefined) writeFileSync(join(runDir, 'run.json'), text);
    expect(() => readRunFile(runDir)).toThrow(InputError);
    expect(() => readRunFile(runDir)).toThrow(message);
  });

  it('that cannot be made is bad input', async () => {
    writeFileSync(runDir, 'a file');
    await expect(prepare(TABLE)).rejects.toThrow(InputError);
    expect(readFileSync(runDir, 'utf8')).toBe('a file');
  });
});

function prepare(text: string) {
  writeFileSync(pipelinePath, text);
  const pipeline = loadPipeline(pipelinePath, { runDir });
  return prepareRunDirectory({ pipeline, modelPath: pipeline.model, cacheDir, command: 'zigzag run' });
}
