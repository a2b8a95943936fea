/**
 * What a task file says about scoring: its metrics, and the filters that an answer passes before it is scored.
 */
import { z } from 'zod';
import { InputError } from './errors.js';
import { pythonRegExp } from './pattern.js';
import { unknownName } from './suggest.js';
import type { KeyPath } from './yaml.js';

export type OutputType = 'generate_until' | 'multiple_choice';

export type MetricSpec =
  | {
      readonly metric: 'exact_match';
      readonly ignoreCase: boolean;
      readonly ignorePunctuation: boolean;
      readonly ignoreNumbers: boolean;
      /** In Python's form: see `pythonRegExp`. */
      readonly regexesToIgnore: readonly string[];
      readonly higherIsBetter: boolean;
    }
  | { readonly metric: 'acc' | 'acc_norm'; readonly higherIsBetter: boolean };

export type FilterSpec =
  | {
      readonly filter: 'regex';
      /** In Python's form: see `pythonRegExp`. */
      readonly pattern: string;
      /** Which of the matches; negative counts from the last. */
      readonly group: number;
      /** The answer where nothing matches. */
      readonly fallback: string;
    }
  | { readonly filter: 'take_first' | 'remove_whitespace' | 'lowercase' | 'uppercase' };

/** Filters one after the other; each pipeline gives a score of its own, under its name. */
export interface FilterPipeline {
  readonly name: string;
  readonly filters: readonly FilterSpec[];
}

export const metricListSchema = z.array(
  z.looseObject({
    metric: z.string(),
    aggregation: z.enum(['mean']).default('mean'),
    higher_is_better: z.boolean().default(true),
  }),
);

export const filterListSchema = z.array(
  z.strictObject({ name: z.string(), filter: z.array(z.looseObject({ function: z.string() })).min(1) }),
);

const exactMatchOptions = z.strictObject({
  ignore_case: z.boolean().default(false),
  ignore_punctuation: z.boolean().default(false),
  ignore_numbers: z.boolean().default(false),
  regexes_to_ignore: z.array(z.string()).default([]),
});

const regexOptions = z.strictObject({
  regex_pattern: z.string().default('#### (\\-?[0-9\\.\\,]+)'),
  group_select: z.int().default(0),
  fallback: z.string().default('[invalid]'),
});

const metricsOf: Readonly<Record<OutputType, readonly string[]>> = {
  generate_until: ['exact_match'],
  multiple_choice: ['acc', 'acc_norm'],
};
const plainFilters = ['take_first', 'remove_whitespace', 'lowercase', 'uppercase'] as const;

type WhereIs = (keys: KeyPath) => string;
type Check = <Schema extends z.ZodType>(schema: Schema, value: unknown, keys: KeyPath) => z.output<Schema>;

/** @throws InputError naming a metric that is not supported, or does not go with the task's output type. */
export function metricSpecs(
  list: z.output<typeof metricListSchema> | undefined,
  outputType: OutputType,
  whereIs: WhereIs,
  check: Check,
): MetricSpec[] {
  const known = metricsOf[outputType];
  if (list === undefined)
    return known.map((metric) => metricSpec(metric, {}, true, (schema, value) => schema.parse(value)));
  return list.map(({ metric, aggregation: _, higher_is_better: higherIsBetter, ...options }, i) => {
    const keys = ['metric_list', i, 'metric'];
    if (!known.includes(metric)) {
      throw new InputError(
        `${whereIs(keys)}: metric_list: with ${outputType} there is no metric ${unknownName(metric, known)}`,
      );
    }
    const spec = metricSpec(metric, options, higherIsBetter, (schema, value) =>
      check(schema, value, ['metric_list', i]),
    );
    if (spec.metric === 'exact_match') {
      for (const pattern of spec.regexesToIgnore)
        pythonRegExp(pattern, `${whereIs(['metric_list', i, 'regexes_to_ignore'])}: regexes_to_ignore`);
    }
    return spec;
  });
}

function metricSpec(
  metric: string,
  options: object,
  higherIsBetter: boolean,
  check: <Schema extends z.ZodType>(schema: Schema, value: unknown) => z.output<Schema>,
): MetricSpec {
  if (metric !== 'exact_match') {
    check(z.strictObject({}), options);
    return { metric: metric === 'acc' ? 'acc' : 'acc_norm', higherIsBetter };
  }
  const checked = check(exactMatchOptions, options);
  return {
    metric,
    ignoreCase: checked.ignore_case,
    ignorePunctuation: checked.ignore_punctuation,
    ignoreNumbers: checked.ignore_numbers,
    regexesToIgnore: checked.regexes_to_ignore,
    higherIsBetter,
  };
}

/** @throws InputError naming a filter that is not supported. */
export function filterPipelines(
  list: z.output<typeof filterListSchema> | undefined,
  whereIs: WhereIs,
  check: Check,
): FilterPipeline[] {
  if (list === undefined) return [{ name: 'none', filters: [{ filter: 'take_first' }] }];
  return list.map(({ name, filter }, i) => ({
    name,
    filters: filter.map(({ function: kind, ...options }, j): FilterSpec => {
      const keys = ['filter_list', i, 'filter', j];
      if (kind === 'regex') {
        const { regex_pattern: pattern, group_select: group, fallback } = check(regexOptions, options, keys);
        pythonRegExp(pattern, `${whereIs([...keys, 'regex_pattern'])}: regex_pattern`);
        return { filter: 'regex', pattern, group, fallback };
      }
      const plain = plainFilters.find((known) => known === kind);
      if (plain === undefined) {
        throw new InputError(
          `${whereIs([...keys, 'function'])}: filter_list: there is no filter ${unknownName(kind, ['regex', ...plainFilters])}`,
        );
      }
      check(z.strictObject({}), options, keys);
      return { filter: plain };
    }),
  }));
}
