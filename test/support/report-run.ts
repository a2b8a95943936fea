/**
 * A finished run as it lies on disk, with known answers: for tests of scores and reports.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writePart } from '../../datasets/output.js';
import type { ReportSource } from '../../datasets/report.js';
import type { AnswerRow, Ask, PromptRow } from '../../datasets/rows.js';
import { readShard, writeShards } from '../../datasets/shard.js';
import type { Pipeline } from '../../datasets/spec.js';
import { loadTask } from '../../datasets/tasks.js';

export const fingerprint = 'ab12'.repeat(16);
export const generateAsk: Ask = {
  kind: 'generate',
  maxNewTokens: 16,
  stop: ['\n'],
  temperature: 0,
  topK: 0,
  topP: 1,
  seed: 1234,
};

const countries = [
  ['France', 'Paris'],
  ['Japan', 'Tokyo'],
  ['Peru', 'Lima'],
  ['Kenya', 'Nairobi'],
  ['Norway', 'Oslo'],
  ['Cuba', 'Havana'],
  ['Chile', 'Santiago'],
  ['Egypt', 'Cairo'],
] as const;
const examples = 'Q: What is the capital of Ghana?\nA: Accra\n\nQ: What is the capital of Fiji?\nA: Suva\n\n';

/** Markup and quotation marks as a prompt may hold them. */
export const hostileMarkup = `<script>document.title='owned'</script><img src="http://127.0.0.1:9/x" onerror="alert(1)">&amp; ' "`;

export interface RunShape {
  readonly generated: number;
  readonly chosen: number;
  readonly shardRows: number;
}

/**
 * Writes shards and parts of two tasks. `capitals` generates: of ten rows the fourth is wrong and the tenth has an error;
 * row 0 has markup in its prompt and answer. `capitals-choice` scores three options: every other row is right.
 */
export async function writeRun(runDir: string, shape: RunShape): Promise<ReportSource> {
  const tasks = [taskFile(runDir, 'capitals', generateTask), taskFile(runDir, 'capitals-choice', choiceTask)];
  const manifest = await writeShards({
    runDir,
    fingerprint,
    shardRows: shape.shardRows,
    requests: requests(shape),
  });
  const shards = manifest.shards.map((shard) => {
    const part = `outputs/part-${String(shard.index).padStart(5, '0')}.parquet`;
    const rows = readShard(join(runDir, shard.path), shard.sha256).map(answered);
    mkdirSync(join(runDir, 'outputs'), { recursive: true });
    writePart(join(runDir, part), rows, {
      fingerprint,
      shardSha256: shard.sha256,
      engineVersion: '0.1.0',
      columns: ['country'],
    });
    return { shard, part };
  });
  const pipeline: Pick<Pipeline, 'name' | 'path' | 'model' | 'work' | 'engine' | 'limit' | 'seed'> = {
    name: 'quickstart',
    path: '/home/ada/zigzag/pipelines/quickstart.yaml',
    model: 'smollm2-135m-instruct',
    work: {
      kind: 'tasks',
      tasks: tasks.map((path) => loadTask(path)),
      applyChatTemplate: false,
      fewshotAsMultiturn: false,
    },
    engine: { device: 'cpu', policy: 'auto', backend: 'onnx' },
    limit: null,
    seed: 1234,
  };
  return {
    runDir,
    pipeline,
    fingerprint,
    engineVersion: '0.1.0',
    modelFacts: { Family: 'llama', Parameters: '134.5 M', Weights: 'Q4_1, 98.4 MB' },
    command: 'zigzag run pipelines/quickstart.yaml',
    startedAt: Date.UTC(2026, 10, 25, 3, 40),
    shards,
    steps: null,
    totals: { seconds: 61.4, shards: shards.length, reusedShards: 0 },
  };
}

async function* requests({ generated, chosen }: RunShape) {
  for (let i = 0; i < generated; i++) {
    const [country, capital] = countries[i % countries.length]!;
    const question = i === 0 ? `${hostileMarkup} What is the capital of France?` : `What is the capital of ${country}?`;
    const prompt = `${examples}Q: ${question}\nA:`;
    yield {
      ask: generateAsk,
      row: promptRow(`capitals/${i}`, 'capitals', { prompt, target: capital, columns: { country } }),
    };
  }
  for (let i = 0; i < chosen; i++) {
    const [country, capital] = countries[i % countries.length]!;
    const others = [countries[(i + 1) % 8]![1], countries[(i + 3) % 8]![1]];
    const right = i % 3;
    const options = [...others.slice(0, right), capital, ...others.slice(right)].map((option) => ` ${option}`);
    const prompt = `${examples}Q: What is the capital of ${country}?\nA:`;
    const row = { prompt, options, target: String(right), columns: { country } };
    yield { ask: { kind: 'score' } as const, row: promptRow(`capitals-choice/${i}`, 'capitals-choice', row) };
  }
}

function promptRow(rowId: string, task: string, row: Partial<PromptRow> & { readonly prompt: string }): PromptRow {
  const promptSha256 = createHash('sha256').update(row.prompt).digest('hex');
  const nothing = { options: null, target: null, columns: {}, error: null };
  return { ...nothing, rowId, task, promptSha256, promptTokens: Math.ceil(row.prompt.length / 4), ...row };
}

function answered(row: PromptRow): AnswerRow {
  const { rowId, task, promptSha256, promptTokens, columns } = row;
  const shared = { rowId, task, promptSha256, promptTokens, columns };
  const index = Number(rowId.split('/')[1]);
  if (row.options !== null) {
    const right = Number(row.target);
    const chosen = index % 2 === 0 ? right : (right + 1) % 3;
    const optionLogprobs = row.options.map(
      (_, option) => -(option === chosen ? 0.75 : 6.5) - option / 8 - (index % 5) / 16,
    );
    return { ...shared, optionLogprobs, ...unanswered, finishReason: 'stop' };
  }
  if (index % 10 === 9) {
    const error = 'the prompt has 9,000 tokens and the model reads 2,048; shorten it or choose another model';
    return { ...shared, ...unanswered, optionLogprobs: null, finishReason: 'error', error };
  }
  const markup = index === 0 ? ' <b onclick="alert(1)">bold</b>' : '';
  const completion = index % 10 === 3 ? ' I do not know' : ` ${row.target}${markup}`;
  const logprob = -0.125 * (1 + (index % 7));
  return {
    ...shared,
    optionLogprobs: null,
    completion,
    finishReason: 'stop',
    completionTokens: 3,
    logprob,
    error: null,
  };
}

const unanswered = { completion: null, completionTokens: 0, logprob: null, error: null };

function taskFile(runDir: string, name: string, body: string): string {
  const path = join(runDir, 'tasks', `${name}.yaml`);
  mkdirSync(join(runDir, 'tasks'), { recursive: true });
  writeFileSync(join(runDir, 'tasks', 'capitals.jsonl'), '{"country":"France","capital":"Paris"}\n');
  writeFileSync(path, `task: ${name}\n${body}`);
  return path;
}

const shared = `dataset_path: json
dataset_kwargs: { data_files: { test: capitals.jsonl } }
test_split: test
doc_to_text: "Q: What is the capital of {{country}}?\\nA:"
metadata: { version: 1 }
`;
const generateTask = `${shared}output_type: generate_until
doc_to_target: "{{capital}}"
generation_kwargs: { until: ["\\n"], max_gen_toks: 16 }
metric_list: [{ metric: exact_match, ignore_case: true }]
filter_list:
  - { name: strict, filter: [{ function: remove_whitespace }, { function: take_first }] }
  - { name: first-word, filter: [{ function: regex, regex_pattern: "(\\\\w+)" }, { function: take_first }] }
`;
const choiceTask = `${shared}output_type: multiple_choice
doc_to_choice: "{{options}}"
doc_to_target: 0
metric_list: [{ metric: acc }, { metric: acc_norm }]
`;
