import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openExamples } from '../../datasets/fewshot.js';
import { pythonRandom } from '../../datasets/fewshot-random.js';
import { promptRows } from '../../datasets/requests.js';
import type { PromptRow } from '../../datasets/rows.js';
import type { Pipeline } from '../../datasets/spec.js';
import { type Fewshot, loadTask, type Wording } from '../../datasets/tasks.js';

const recorded = join(process.cwd(), 'test/fixtures/lm-eval-prompts');
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as unknown;

interface Asked {
  readonly prompt: string;
  readonly options: readonly string[] | null;
  readonly target: string | null;
}
interface RecordedPrompts {
  readonly first: readonly Asked[];
  readonly rows: number;
  readonly sha256: string;
}
const expected = readJson(join(recorded, 'expected.json')) as Record<string, RecordedPrompts>;
const { chatTemplate } = readJson(join(process.cwd(), 'test/fixtures/smollm2-135m/chat-cases.json')) as {
  chatTemplate: string;
};

describe('prompts, options and targets are those of lm-eval 0.4.13', () => {
  it.each(Object.keys(expected))('%s', async (name) => {
    const [task, form] = name.split(' ') as [string, 'plain' | 'multiturn' | 'oneturn'];
    const rows = await ask(task, form);
    const { first, rows: count, sha256 } = expected[name]!;
    expect(rows.slice(0, first.length)).toEqual(first);
    expect(rows.length).toBe(count);
    expect(digest(rows)).toBe(sha256);
  });
});

it('draws the numbers that Python draws', () => {
  const python = readJson(join(recorded, 'python-sample.json')) as {
    seeds: { seed: number; draws: [size: number, count: number, drawn: number[]][] }[];
    seed7Draw2000of10Take2: number[];
  };
  for (const { seed, draws } of python.seeds) {
    const random = pythonRandom(seed);
    for (const [size, count, drawn] of draws) expect(random.sample(size, count)).toEqual(drawn);
  }
  const random = pythonRandom(7);
  for (let i = 1; i < 2000; i++) random.sample(10, 2);
  expect(random.sample(10, 2)).toEqual(python.seed7Draw2000of10Take2);
});

describe('choosing examples', () => {
  const rows = [{ n: 1 }, { n: 2 }, { n: 2 }, { n: 3 }];

  it('never shows a row to itself, even where the same row is there twice', async () => {
    for (const sampler of ['first_n', 'default'] as const) {
      const examplesFor = await openExamples(fewshot({ sampler, examples: rows, fromAskedRows: true }), 5, 'task.yaml');
      for (let i = 0; i < 50; i++) {
        const shown = examplesFor({ n: 2 });
        expect(shown.length).toBe(2);
        expect(shown).not.toContainEqual({ n: 2 });
      }
    }
  });

  it('takes the rows named by fewshot_indices, in that order', async () => {
    const examplesFor = await openExamples(fewshot({ examples: rows, indices: [3, 0] }), 5, 'task.yaml');
    expect(examplesFor({ n: 9 })).toEqual([{ n: 3 }, { n: 1 }]);
  });

  it.each([
    ['too few rows', { examples: [{ n: 1 }] }, /2 examples need 2 rows to choose from, found 1/],
    ['an index past the end', { examples: rows, indices: [0, 4] }, /there is no row 4; the examples have 4 rows/],
  ])('refuses %s', async (_, given, message) => {
    await expect(openExamples(fewshot(given), 5, 'task.yaml')).rejects.toThrow(message);
  });
});

function fewshot(given: Partial<Fewshot>): Fewshot {
  const wording: Wording = {
    text: { text: 'n', where: '' },
    target: 0,
    choice: null,
    targetDelimiter: ' ',
    fewshotDelimiter: '',
  };
  return { count: 2, sampler: 'first_n', examples: [], indices: null, fromAskedRows: false, wording, ...given };
}

async function ask(task: string, form: 'plain' | 'multiturn' | 'oneturn'): Promise<Asked[]> {
  const pipeline: Pipeline = {
    name: 'recorded',
    path: 'recorded.yaml',
    model: 'none',
    work: {
      kind: 'tasks',
      tasks: [loadTask(join(recorded, `${task}.yaml`))],
      applyChatTemplate: form !== 'plain',
      fewshotAsMultiturn: form === 'multiturn',
    },
    engine: { device: 'cpu', policy: 'auto', backend: 'onnx' },
    runDir: '/nowhere',
    limit: null,
    seed: 1234,
    shardRows: 100,
    columns: [],
  };
  const rows: PromptRow[] = [];
  const model = {
    chatTemplate,
    bosToken: '',
    eosToken: '',
    countTokens: async (texts: readonly string[]) => texts.map(() => 1),
  };
  for await (const { row } of promptRows(pipeline, model)) rows.push(row);
  expect(rows.filter((row) => row.error !== null)).toEqual([]);
  return rows.map(({ prompt, options, target }) => ({ prompt, options, target }));
}

/** As recorded: prompt, options and target of each row, separated by zero bytes and newlines. */
function digest(rows: readonly Asked[]): string {
  const hash = createHash('sha256');
  for (const { prompt, options, target } of rows) hash.update(`${prompt}\0${(options ?? []).join('\0')}\0${target}\n`);
  return hash.digest('hex');
}
