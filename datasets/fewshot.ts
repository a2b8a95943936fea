/**
 * Few-shot examples: which rows are shown before a question.
 *
 * Source: lm-eval 0.4.13, `api/samplers.py`. The default sampler draws afresh for each row from one random state, seeded
 * once a task, so that rows asked in the order of the file see the examples that lm-eval shows them.
 */
import { isDeepStrictEqual } from 'node:util';
import { InputError } from './errors.js';
import { pythonRandom } from './fewshot-random.js';
import type { Values } from './prompt.js';
import { openSource, type SourceSpec } from './source.js';
import type { Fewshot } from './tasks.js';

/** Drawing at random needs all rows at hand. */
const maxPoolRows = 200_000;

/**
 * The examples for the rows of one task. Call it once for each row, in the order of the file, those with an error left out:
 * the draw for a row depends on how many came before.
 */
export type ExamplesFor = (asked: Values) => readonly Values[];

/** @throws InputError where there are fewer rows than examples are asked for, or too many to draw from. */
export async function openExamples(fewshot: Fewshot, seed: number, where: string): Promise<ExamplesFor> {
  const { count, sampler, fromAskedRows } = fewshot;
  if (count === 0) return () => [];
  // One more, so that a row that is its own example can be left out.
  const needed = count + (fromAskedRows ? 1 : 0);
  const pool = await examplePool(fewshot, needed, where);
  if (pool.length < needed) {
    throw new InputError(
      `${where}: ${count} examples need ${needed} rows to choose from, found ${pool.length}; lower num_fewshot or add rows`,
    );
  }
  if (sampler === 'first_n') {
    return (asked) => (fromAskedRows ? firstOthers(asked, pool, count, where) : pool.slice(0, count));
  }
  const random = pythonRandom(seed);
  const drawn = (rows: readonly Values[], size: number) => random.sample(rows.length, size).map((i) => rows[i]!);
  return (asked) => {
    const examples = drawn(pool, needed);
    if (!fromAskedRows) return examples;
    const others = without(asked, examples).slice(0, count);
    if (others.length === count) return others;
    const rest = without(asked, pool);
    if (rest.length < count) throw tooFew(count, rest.length, where);
    return drawn(rest, count);
  };
}

function firstOthers(asked: Values, pool: readonly Values[], count: number, where: string): Values[] {
  const others: Values[] = [];
  for (const row of pool) {
    if (!isDeepStrictEqual(row, asked)) others.push(row);
    if (others.length === count) return others;
  }
  throw tooFew(count, others.length, where);
}

function without(asked: Values, rows: readonly Values[]): Values[] {
  return rows.filter((row) => !isDeepStrictEqual(row, asked));
}

function tooFew(count: number, found: number, where: string): InputError {
  return new InputError(
    `${where}: ${count} examples needed, but only ${found} rows differ from the one asked; lower num_fewshot or add rows`,
  );
}

async function examplePool(fewshot: Fewshot, needed: number, where: string): Promise<Values[]> {
  const { examples, indices, sampler } = fewshot;
  // A table of which only the beginning is used is not read to its end.
  const stopAt =
    sampler === 'first_n' && indices === null && !fewshot.fromAskedRows ? needed : Number.POSITIVE_INFINITY;
  const rows = isSource(examples) ? await readRows(examples, stopAt, where) : [...examples];
  if (indices === null) return rows;
  return indices.map((i) => {
    const row = rows[i];
    if (row === undefined)
      throw new InputError(`${where}: fewshot_indices: there is no row ${i}; the examples have ${rows.length} rows`);
    return row;
  });
}

function isSource(examples: Fewshot['examples']): examples is SourceSpec {
  return 'files' in examples;
}

async function readRows(source: SourceSpec, stopAt: number, where: string): Promise<Values[]> {
  const rows: Values[] = [];
  for await (const { values, error } of openSource(source)) {
    if (error !== undefined) throw new InputError(`${where}: an example cannot be read: ${error}`);
    if (rows.length >= maxPoolRows) {
      throw new InputError(
        `${where}: more than ${maxPoolRows} rows to draw examples from; name a smaller fewshot_split, or sampler: first_n`,
      );
    }
    rows.push(values);
    if (rows.length >= stopAt) break;
  }
  return rows;
}
