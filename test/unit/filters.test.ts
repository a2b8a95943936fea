import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../datasets/errors.js';
import { compileFilters } from '../../datasets/filters.js';
import { findAll, pythonRegExp } from '../../datasets/pattern.js';
import type { FilterSpec } from '../../datasets/tasks.js';

interface RegexGolden {
  readonly responses: readonly string[];
  /** Null where lm-eval fails because there are fewer matches than `group` asks for. */
  readonly cases: readonly { readonly pattern: string; readonly group: number; readonly results: (string | null)[] }[];
}
const golden = JSON.parse(readFileSync('test/fixtures/lm-eval-scores/regex.json', 'utf8')) as RegexGolden;

describe('the regex filter', () => {
  it.each(golden.cases.map(({ pattern, group, results }) => [pattern, group, results] as const))(
    'extracts with %s (match %i) what lm-eval extracts',
    (pattern, group, results) => {
      const filter = compileFilters([{ filter: 'regex', pattern, group, fallback: '[invalid]' }], 'task.yaml');
      expect(golden.responses.map(filter)).toEqual(results.map((result) => result ?? '[invalid]'));
    },
  );

  it('names the task of a pattern that cannot be used', () => {
    const compile = () => compileFilters([{ filter: 'regex', pattern: '(a', group: 0, fallback: '' }], 'task.yaml');
    expect(compile).toThrow(InputError);
    expect(compile).toThrow(/^task\.yaml: regex_pattern: the pattern "\(a" is not a regular expression/);
  });
});

describe('the other filters', () => {
  it.each<[string, string, FilterSpec[], string]>([
    ['remove_whitespace trims', '\n a b \t', [{ filter: 'remove_whitespace' }], 'a b'],
    ['lowercase', 'ÉCOLE A', [{ filter: 'lowercase' }], 'école a'],
    ['uppercase', 'école a', [{ filter: 'uppercase' }], 'ÉCOLE A'],
    ['take_first keeps the one response', ' a ', [{ filter: 'take_first' }], ' a '],
    ['none keeps it too', ' a ', [], ' a '],
    ['one after the other', ' YES ', [{ filter: 'remove_whitespace' }, { filter: 'lowercase' }], 'yes'],
    [
      'a pattern looks at what the filter before it left',
      'The answer is YES!',
      [{ filter: 'lowercase' }, { filter: 'regex', pattern: 'answer is (\\w+)', group: 0, fallback: '' }],
      'yes',
    ],
  ])('%s', (_, response, filters, expected) => {
    expect(compileFilters(filters, 'task.yaml')(response)).toBe(expected);
  });
});

describe('a Python pattern', () => {
  it('finds all matches as re.findall does', () => {
    expect(findAll(pythonRegExp('a*', 'x'), 'baac')).toEqual(['', 'aa', '', '']);
    expect(findAll(pythonRegExp('(a)|(b)', 'x'), 'ab')).toEqual([
      ['a', ''],
      ['', 'b'],
    ]);
    expect(findAll(pythonRegExp('(a)?x', 'x'), 'x')).toEqual(['']);
  });

  it.each([
    ['(?x) a b', /sets the flag "x"/],
    ['a(?i:b)', /has "\(\?i:"/],
    ['(?>a)', /has "\(\?>"/],
    ['(a)?(?(1)b|c)', /has "\(\?\("/],
    ['a*+', /possessive quantifier "\*\+"/],
    ['a{2}+', /possessive quantifier "\{2\}\+"/],
    ['\\q', /has "\\q", which means nothing/],
    ['a\\', /ends with a backslash/],
    ['[a', /opens a class at character 1/],
    ['a)', /is not a regular expression/],
  ])('%s is refused and not guessed at', (pattern, message) => {
    expect(() => pythonRegExp(pattern, 'task.yaml')).toThrow(InputError);
    expect(() => pythonRegExp(pattern, 'task.yaml')).toThrow(message);
  });
});
