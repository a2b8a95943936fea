import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../datasets/errors.js';
import { compileMetric, type Judged, meanWithError } from '../../datasets/metrics.js';
import type { MetricSpec } from '../../datasets/tasks.js';

function golden<T>(name: string): T {
  return JSON.parse(readFileSync(`test/fixtures/lm-eval-scores/${name}.json`, 'utf8')) as T;
}
const exactMatch = golden<{
  readonly pairs: readonly [response: string, target: string][];
  readonly cases: readonly { readonly options: LmEvalOptions; readonly results: readonly number[] }[];
}>('exact-match');
const choices = golden<{
  readonly rows: readonly (Record<'acc' | 'acc_norm' | 'gold', number> & {
    readonly choices: readonly string[];
    readonly lls: readonly number[];
  })[];
  readonly aggregate: Readonly<Record<string, { readonly value: number; readonly stderr: number }>>;
}>('choices');

interface LmEvalOptions {
  readonly ignore_case?: boolean;
  readonly ignore_punctuation?: boolean;
  readonly ignore_numbers?: boolean;
  readonly regexes_to_ignore?: readonly string[];
}

function exactMatchSpec(options: LmEvalOptions): MetricSpec {
  return {
    metric: 'exact_match',
    ignoreCase: options.ignore_case ?? false,
    ignorePunctuation: options.ignore_punctuation ?? false,
    ignoreNumbers: options.ignore_numbers ?? false,
    regexesToIgnore: options.regexes_to_ignore ?? [],
    higherIsBetter: true,
  };
}

describe('exact_match', () => {
  it.each(exactMatch.cases.map(({ options, results }) => [JSON.stringify(options), options, results] as const))(
    'with %s judges as lm-eval does',
    (_, options, results) => {
      const judge = compileMetric(exactMatchSpec(options), 'task.yaml');
      const judged = exactMatch.pairs.map(([response, target]) => judge({ kind: 'generate', response, target }));
      expect(judged).toEqual(results);
    },
  );

  it('names the task of a pattern that cannot be used', () => {
    const compile = () => compileMetric(exactMatchSpec({ regexes_to_ignore: ['['] }), 'task.yaml');
    expect(compile).toThrow(InputError);
    expect(compile).toThrow(/^task\.yaml: regexes_to_ignore: the pattern "\["/);
  });
});

describe.each(['acc', 'acc_norm'] as const)('%s', (metric) => {
  const judge = compileMetric({ metric, higherIsBetter: true }, 'task.yaml');

  it('judges forty rows as numpy does, ties and text beyond ASCII among them', () => {
    const judged = choices.rows.map(({ lls, choices, gold }) =>
      judge({ kind: 'score', optionLogprobs: lls, choices, target: gold }),
    );
    expect(judged).toEqual(choices.rows.map((row) => row[metric]));
  });

  it('has the mean and the standard error of lm-eval', () => {
    const mean = meanWithError();
    for (const row of choices.rows) mean.add(row[metric]);
    const { value, stderr, n } = mean.result();
    expect(n).toBe(40);
    expect(value).toBeCloseTo(choices.aggregate[metric]!.value, 12);
    expect(stderr).toBeCloseTo(choices.aggregate[metric]!.stderr, 12);
  });

  it('finds every answer wrong where no option is right', () => {
    expect(judge({ kind: 'score', optionLogprobs: [-1, -2], choices: ['a', 'b'], target: -1 })).toBe(0);
  });
});

describe('the length that a log-likelihood is divided by', () => {
  // -6 / 2 = -3 and -8 / 4 = -2: the longer option wins once length counts.
  const longer: Judged = { kind: 'score', optionLogprobs: [-6, -8], choices: ['no', 'yes!'], target: 1 };
  // One character against two, four bytes against two: -4 / 1 < -7 / 2 in characters, -4 / 4 > -7 / 2 in bytes.
  const tower: Judged = { kind: 'score', optionLogprobs: [-4, -7], choices: ['🗼', 'ab'], target: 1 };
  it.each<['acc' | 'acc_norm', string, Judged, number]>([
    ['acc', 'none', longer, 0],
    ['acc_norm', 'that in characters', longer, 1],
    ['acc_norm', 'that in characters and not in bytes or UTF-16 units', tower, 1],
  ])('for %s is %s', (metric, _, row, expected) => {
    expect(compileMetric({ metric, higherIsBetter: true }, 'task.yaml')(row)).toBe(expected);
  });
});

describe('a mean', () => {
  it.each([
    ['of nothing is 0 of 0, without an error', [], { value: 0, stderr: null, n: 0 }],
    ['of one value has no standard error', [1], { value: 1, stderr: null, n: 1 }],
    ['of equal values has none to speak of', [1, 1, 1], { value: 1, stderr: 0, n: 3 }],
    // By hand: mean 1/4, deviations 9/16 + 3/16 = 3/4, sqrt(3/4 / 3) / sqrt(4) = 1/4.
    ['of 1 0 0 0 is a quarter, give or take a quarter', [1, 0, 0, 0], { value: 0.25, stderr: 0.25, n: 4 }],
  ])('%s', (_, values, expected) => {
    const mean = meanWithError();
    for (const value of values) mean.add(value);
    expect(mean.result()).toEqual(expected);
  });
});
