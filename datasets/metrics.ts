/**
 * How right an answer is: the metrics of lm-eval, one value a row, and their mean with its standard error.
 *
 * Source: lm-eval 0.4.13: `exact_match`, `acc`, `acc_norm` and `mean_stderr`.
 */
import { pythonRegExp } from './pattern.js';
import type { Metric } from './rows.js';
import type { MetricSpec } from './tasks.js';

/** What a metric compares. */
export type Judged =
  | { readonly kind: 'generate'; readonly response: string; readonly target: string }
  | {
      readonly kind: 'score';
      readonly optionLogprobs: readonly number[];
      /** As the task names them, without the delimiter that joins them to the question. */
      readonly choices: readonly string[];
      /** Index of the right choice; -1 where none is. */
      readonly target: number;
    };

/** 1 where the answer is right, else 0. */
export type Judge = (row: Judged) => number;

/**
 * @param where names the file of the task, for errors.
 * @throws InputError on a pattern that cannot be used.
 */
export function compileMetric(spec: MetricSpec, where: string): Judge {
  if (spec.metric === 'exact_match') return exactMatch(spec, where);
  const { metric } = spec;
  return (row) => (row.kind === 'score' && chosenOption(metric, row) === row.target ? 1 : 0);
}

/** Index of the option with the greatest log-likelihood (per character, for `acc_norm`); of equal ones the first, as in numpy. */
export function chosenOption(
  metric: 'acc' | 'acc_norm',
  { optionLogprobs, choices }: Pick<Extract<Judged, { kind: 'score' }>, 'optionLogprobs' | 'choices'>,
): number {
  // Characters are code points, as Python counts them.
  const lengthOf = (choice: string) => (metric === 'acc' ? 1 : Array.from(choice).length);
  const scores = optionLogprobs.map((logprob, index) => logprob / lengthOf(choices[index]!));
  return scores.reduce((best, score, index) => (score > scores[best]! ? index : best), 0);
}

/** Mean of 0s and 1s, one at a time. Counts are exact, so the order of the rows does not matter. */
export interface Mean {
  add(value: number): void;
  /** `stderr` is sqrt(sum of squared deviations / (n - 1)) / sqrt(n), null below two values. */
  result(): Metric;
}

export function meanWithError(): Mean {
  let n = 0;
  let sum = 0;
  return {
    add(value) {
      n += 1;
      sum += value;
    },
    result() {
      const mean = n === 0 ? 0 : sum / n;
      const squaredDeviations = sum * (1 - mean) ** 2 + (n - sum) * mean ** 2;
      return { value: mean, stderr: n < 2 ? null : Math.sqrt(squaredDeviations / (n - 1) / n), n };
    },
  };
}

function exactMatch(spec: Extract<MetricSpec, { metric: 'exact_match' }>, where: string): Judge {
  const ignored = spec.regexesToIgnore.map((pattern) => pythonRegExp(pattern, `${where}: regexes_to_ignore`));
  const normalised = (text: string): string => {
    let rest = ignored.reduce((left, pattern) => left.replace(pattern, ''), text);
    if (spec.ignoreCase) rest = rest.toLowerCase();
    if (spec.ignorePunctuation) rest = rest.replace(asciiPunctuation, '');
    if (spec.ignoreNumbers) rest = rest.replace(/[0-9]/g, '');
    return rest;
  };
  return (row) => (row.kind === 'generate' && normalised(row.response) === normalised(row.target) ? 1 : 0);
}

/** Python's `string.punctuation`. */
const asciiPunctuation = /[!-/:-@[-`{-~]/g;
