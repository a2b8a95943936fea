import { describe, expect, it } from 'vitest';
import { InputError } from '../../datasets/errors.js';
import type { AnswerRow, PromptRow } from '../../datasets/rows.js';
import { metricsOf, type Sample, type ScoredTask, type ShardRows, scoreRun } from '../../datasets/score.js';

const generateTask: ScoredTask = {
  name: 'sums',
  path: 'tasks/sums.yaml',
  optionPrefix: ' ',
  metrics: [
    {
      metric: 'exact_match',
      ignoreCase: false,
      ignorePunctuation: false,
      ignoreNumbers: false,
      regexesToIgnore: [],
      higherIsBetter: true,
    },
  ],
  filters: [
    { name: 'none', filters: [{ filter: 'take_first' }] },
    { name: 'last-number', filters: [{ filter: 'regex', pattern: '\\d+', group: -1, fallback: '[invalid]' }] },
  ],
};
const choiceTask: ScoredTask = {
  name: 'pick',
  path: 'tasks/pick.yaml',
  optionPrefix: ' ',
  metrics: [
    { metric: 'acc', higherIsBetter: true },
    { metric: 'acc_norm', higherIsBetter: true },
  ],
  filters: [{ name: 'none', filters: [{ filter: 'take_first' }] }],
};

function prompt(rowId: string, values: Partial<PromptRow> = {}): PromptRow {
  const task = rowId.split('/')[0]!;
  const rest = {
    prompt: rowId,
    promptSha256: rowId,
    promptTokens: 10,
    options: null,
    target: '7',
    columns: {},
    error: null,
  };
  return { rowId, task, ...rest, ...values };
}

function answer(rowId: string, values: Partial<AnswerRow> = {}): AnswerRow {
  return {
    rowId,
    task: rowId.split('/')[0]!,
    promptSha256: rowId,
    completion: '7',
    finishReason: 'stop',
    promptTokens: 10,
    completionTokens: 2,
    logprob: -1,
    optionLogprobs: null,
    error: null,
    columns: {},
    ...values,
  };
}

const failed = {
  completion: null,
  finishReason: 'error',
  completionTokens: 0,
  logprob: null,
  error: 'too long',
} as const;

/** By hand: as it is, 1 of 4 is right; by its last number, 3 of 4. */
const sums: ShardRows = {
  part: 'outputs/part-00000.parquet',
  prompts: [prompt('sums/0'), prompt('sums/1'), prompt('sums/2'), prompt('sums/3')],
  answers: [
    answer('sums/2', { completion: '3 + 4 = 7' }),
    answer('sums/0'),
    answer('sums/3', failed),
    answer('sums/1', { completion: 'it is 7.' }),
  ],
};
const options = [' no', ' yes!'];
/** By hand: acc finds "no" in row 0 and "yes!" in row 1; per character -6/2 < -8/4 and -9/2 < -2/4, so acc_norm finds "yes!". */
const picks: ShardRows = {
  part: 'outputs/part-00001.parquet',
  prompts: [prompt('pick/0', { options, target: '1' }), prompt('pick/1', { options, target: '1' })],
  answers: [
    answer('pick/0', { completion: null, completionTokens: 0, optionLogprobs: [-6, -8] }),
    answer('pick/1', { completion: null, completionTokens: 0, optionLogprobs: [-9, -2] }),
  ],
};

describe('the scores of a run', () => {
  it('are the means of each task, metric and filter, an error counting as wrong', async () => {
    expect(await scoreRun([generateTask, choiceTask], [sums, picks])).toEqual([
      {
        task: 'sums',
        rows: 4,
        errors: 1,
        promptTokens: 40,
        generatedTokens: 6,
        chance: null,
        scores: [
          // Mean 1/4: sqrt(3/4 / 3) / sqrt(4) = 1/4. Mean 3/4: the same.
          { metric: 'exact_match', filter: 'none', higherIsBetter: true, value: 0.25, stderr: 0.25, n: 4 },
          { metric: 'exact_match', filter: 'last-number', higherIsBetter: true, value: 0.75, stderr: 0.25, n: 4 },
        ],
      },
      {
        task: 'pick',
        rows: 2,
        errors: 0,
        promptTokens: 20,
        generatedTokens: 0,
        chance: 0.5,
        scores: [
          // Mean 1/2 of two: sqrt(1/2 / 1) / sqrt(2) = 1/2.
          { metric: 'acc', filter: 'none', higherIsBetter: true, value: 0.5, stderr: 0.5, n: 2 },
          { metric: 'acc_norm', filter: 'none', higherIsBetter: true, value: 1, stderr: 0, n: 2 },
        ],
      },
    ]);
  });

  it('are named by metric, and by filter too where it is not the default', async () => {
    const metrics = metricsOf(await scoreRun([generateTask, choiceTask], [sums, picks]));
    expect(Object.keys(metrics.sums!)).toEqual(['exact_match', 'exact_match,last-number']);
    expect(metrics.pick!.acc).toEqual({ value: 0.5, stderr: 0.5, n: 2 });
  });

  it('do not depend on how the rows lie in shards', async () => {
    const single = sums.prompts as PromptRow[];
    const split = [...single].reverse().map((row, index) => ({
      part: `outputs/part-${index}.parquet`,
      prompts: [row],
      answers: sums.answers.filter(({ rowId }) => rowId === row.rowId),
    }));
    expect(await scoreRun([generateTask], split)).toEqual(await scoreRun([generateTask], [sums]));
  });

  it('take the length of an option as it is, where nothing joins it to the question', async () => {
    // By hand: -6.4 / 3 > -10.9 / 5 with the leading space, -6.4 / 2 < -10.9 / 4 without.
    const rows = { ...picks, answers: picks.answers.map((row) => ({ ...row, optionLogprobs: [-6.4, -10.9] })) };
    const value = async (optionPrefix: string) =>
      (await scoreRun([{ ...choiceTask, optionPrefix }], [rows]))[0]!.scores[1]!.value;
    expect(await value('')).toBe(0);
    expect(await value(' ')).toBe(1);
  });

  it('come with every row as it was judged', async () => {
    const samples: Sample[] = [];
    await scoreRun([generateTask, choiceTask], [sums, picks], (sample) => samples.push(sample));
    expect(
      samples.map(({ prompt, judgements }) => [prompt.rowId, ...judgements.map((j) => [j.response, j.values])]),
    ).toEqual([
      ['sums/0', ['7', { exact_match: 1 }], ['7', { exact_match: 1 }]],
      ['sums/1', ['it is 7.', { exact_match: 0 }], ['7', { exact_match: 1 }]],
      ['sums/2', ['3 + 4 = 7', { exact_match: 0 }], ['7', { exact_match: 1 }]],
      ['sums/3', [null, { exact_match: 0 }], [null, { exact_match: 0 }]],
      ['pick/0', ['no', { acc: 0, acc_norm: 1 }]],
      ['pick/1', ['yes!', { acc: 1, acc_norm: 1 }]],
    ]);
  });

  it('are none where rows belong to no task, but the rows are counted', async () => {
    const [scores] = await scoreRun([], [sums]);
    expect(scores).toMatchObject({ task: 'sums', rows: 4, errors: 1, generatedTokens: 6, scores: [] });
  });

  it('count an answer as wrong where no option is the right one', async () => {
    const rows = { ...picks, prompts: [...picks.prompts].map((row) => ({ ...row, target: '-100' })) };
    expect((await scoreRun([choiceTask], [rows]))[0]!.scores.map(({ value }) => value)).toEqual([0, 0]);
  });
});

describe('a part that does not fit its shard is refused', () => {
  const [first, second] = sums.answers;
  it.each<[string, ShardRows[], RegExp]>([
    ['a row is missing', [{ ...sums, answers: sums.answers.slice(1) }], /row sums\/2 is missing/],
    ['a row is doubled', [{ ...sums, answers: [...sums.answers, second!] }], /row sums\/0 is there twice/],
    ['a row was not asked', [{ ...sums, answers: [...sums.answers, answer('sums/9')] }], /row sums\/9 was not asked/],
    [
      'another prompt was answered',
      [{ ...sums, answers: [{ ...first!, promptSha256: 'x' }, ...sums.answers.slice(1)] }],
      /row sums\/2 answers another prompt/,
    ],
    [
      'two parts have a row',
      [{ ...sums, part: 'outputs/other.parquet' }, sums],
      /row sums\/0 is in another part as well/,
    ],
    [
      'options have no values',
      [{ ...picks, part: sums.part, answers: picks.answers.map((row) => ({ ...row, optionLogprobs: [-1] })) }],
      /row pick\/0 has 2 options and 1 log-likelihood/,
    ],
  ])('where %s', async (_, shards, problem) => {
    const scored = scoreRun([generateTask, choiceTask], shards);
    await expect(scored).rejects.toThrow(InputError);
    await expect(scored).rejects.toThrow(problem);
    await expect(scored).rejects.toThrow(
      /^outputs\/part-00000\.parquet: .*delete this part and run the same command again/,
    );
  });

  it('and a row without a target cannot be scored', async () => {
    const rows = { ...sums, prompts: [...sums.prompts].map((row) => ({ ...row, target: null })) };
    await expect(scoreRun([generateTask], [rows])).rejects.toThrow(/tasks\/sums\.yaml: row sums\/0 has no target/);
  });
});
