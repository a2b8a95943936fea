/**
 * Linear programs, and the linear quantities that they are made of.
 *
 * A cost model says each cost once, as a quantity that is linear in the shares of a placement: the same quantity is a row
 * of the program that is solved, and is evaluated at a given placement.
 */

/** constant + the sum of coefficient x variable. */
export interface Linear {
  readonly constant: number;
  readonly terms: Readonly<Record<string, number>>;
}

export interface Constraint {
  /** For people. */
  readonly name: string;
  readonly left: Linear;
  readonly relation: 'atMost' | 'equal';
  readonly right: Linear;
}

/** Minimises the objective; no variable is below 0. */
export interface LinearProgram {
  readonly objective: Linear;
  readonly constraints: readonly Constraint[];
}

export type Outcome =
  | { readonly status: 'optimal'; readonly objective: number; readonly values: Readonly<Record<string, number>> }
  | { readonly status: 'infeasible' | 'unbounded' };

/** What solves them; the one door to a solver gives it. */
export type Solve = (program: LinearProgram) => Outcome;

export function constant(value: number): Linear {
  return { constant: value, terms: {} };
}

export function variable(name: string, coefficient = 1): Linear {
  return { constant: 0, terms: { [name]: coefficient } };
}

export function plus(...parts: readonly Linear[]): Linear {
  const terms: Record<string, number> = {};
  let total = 0;
  for (const part of parts) {
    total += part.constant;
    for (const [name, coefficient] of Object.entries(part.terms)) terms[name] = (terms[name] ?? 0) + coefficient;
  }
  return { constant: total, terms };
}

export function times(factor: number, { constant: base, terms }: Linear): Linear {
  const scaled = Object.entries(terms).map(([name, coefficient]) => [name, factor * coefficient] as const);
  return { constant: factor * base, terms: Object.fromEntries(scaled) };
}

/** At the values of all its variables; those that are not given are 0. */
export function valueAt({ constant: base, terms }: Linear, values: Readonly<Record<string, number>>): number {
  return Object.entries(terms).reduce((sum, [name, coefficient]) => sum + coefficient * (values[name] ?? 0), base);
}

/** A constraint with all variables on the left, divided by its largest coefficient: solvers compare with absolute tolerances. */
export interface Row {
  readonly terms: readonly (readonly [name: string, coefficient: number])[];
  readonly relation: Constraint['relation'];
  readonly right: number;
}

export function rowOf({ left, relation, right }: Constraint): Row {
  const { constant: base, terms } = plus(left, times(-1, right));
  const pairs = Object.entries(terms).filter(([, coefficient]) => coefficient !== 0);
  const largest = pairs.reduce((most, [, coefficient]) => Math.max(most, Math.abs(coefficient)), 0) || 1;
  return {
    terms: pairs.map(([name, coefficient]) => [name, coefficient / largest] as const),
    relation,
    right: -base / largest,
  };
}
