/**
 * What is made of a completion before it is compared: the filters of a task, as lm-eval has them.
 *
 * lm-eval filters lists of responses, one for each repeat; here a request has one response, which `take_first` leaves as
 * it is.
 */
import { findAll, pythonRegExp } from './pattern.js';
import type { FilterSpec } from './tasks.js';

export type Filter = (response: string) => string;

/**
 * @param where names the file of the task, for errors.
 * @throws InputError on a pattern that cannot be used.
 */
export function compileFilters(specs: readonly FilterSpec[], where: string): Filter {
  const steps = specs.map((spec) => (spec.filter === 'regex' ? regexFilter(spec, where) : plainFilters[spec.filter]));
  return (response) => steps.reduce((text, step) => step(text), response);
}

type RegexSpec = Extract<FilterSpec, { filter: 'regex' }>;

const plainFilters: Readonly<Record<Exclude<FilterSpec, RegexSpec>['filter'], Filter>> = {
  take_first: (text) => text,
  remove_whitespace: (text) => text.trim(),
  lowercase: (text) => text.toLowerCase(),
  uppercase: (text) => text.toUpperCase(),
};

/**
 * The `group`-th match, counted from the end where negative; of several groups in it the first that is not empty.
 * lm-eval fails where there are matches but not so many; we take the fallback.
 */
function regexFilter({ pattern, group, fallback }: RegexSpec, where: string): Filter {
  const expression = pythonRegExp(pattern, `${where}: regex_pattern`);
  return (response) => {
    const match = findAll(expression, response).at(group);
    const text = typeof match === 'string' ? match : match?.find((part) => part !== '');
    return text?.trim() ?? fallback;
  };
}
