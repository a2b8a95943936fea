import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../engine/model/random.js';
import { openSolver } from '../../engine/policy/highs.js';
import {
  type Constraint,
  constant,
  type Linear,
  type LinearProgram,
  plus,
  times,
  valueAt,
  variable,
} from '../../engine/policy/linear-program.js';
import { modelOf, openSecondSolver } from '../support/second-solver.js';

const solve = await openSolver();
const second = openSecondSolver();
afterAll(() => second.close());

const random = seededRandom(17);
const between = (least: number, most: number) => least + (most - least) * random.next();

/** Shares of three things on three tiers, with capacities, and times that are the longest of several. */
function randomProgram(): LinearProgram {
  const things = ['weights', 'kv', 'activations'];
  const tiers = ['gpu', 'cpu', 'disk'];
  const shares = things.map((thing) => tiers.map((tier) => `${thing}.${tier}`));
  const anything = () => plus(constant(between(0, 2)), ...shares.flat().map((name) => variable(name, between(-1, 5))));
  const constraints: Constraint[] = shares.map((names, i) => ({
    name: things[i]!,
    left: plus(...names.map((name) => variable(name))),
    relation: 'equal',
    right: constant(1),
  }));
  // Some of them are infeasible: what is left of the capacities of gpu and cpu is random, that of the disk too.
  tiers.forEach((tier, i) => {
    const used = plus(...things.map((thing) => variable(`${thing}.${tier}`, between(1, 100))));
    constraints.push({ name: tier, left: used, relation: 'atMost', right: constant(between(0, [60, 90, 200][i]!)) });
  });
  const times: Linear[] = ['prefill', 'decode'].map((step) => {
    for (let cost = 0; cost < 4; cost++) {
      constraints.push({ name: `${step} ${cost}`, left: anything(), relation: 'atMost', right: variable(step) });
    }
    return variable(step, between(1, 30));
  });
  return { objective: plus(constant(between(-1, 1)), ...times), constraints };
}

describe('the linear program solver', () => {
  it('agrees with another solver on 2000 random programs, feasible or not', { timeout: 240_000 }, async () => {
    const counts = { optimal: 0, infeasible: 0, unbounded: 0, hangs: 0 };
    for (let i = 0; i < 2000; i++) {
      const program = randomProgram();
      const found = solve(program);
      const opinion = await second.solve(modelOf(program));
      counts[opinion.status]++;
      // Without an answer there is nothing to compare; more than a few of them would compare nothing at all.
      if (opinion.status === 'hangs') continue;
      expect(found.status, `program ${i}`).toBe(opinion.status);
      if (found.status !== 'optimal' || opinion.status !== 'optimal') continue;
      const expected = opinion.objective + program.objective.constant;
      expect(Math.abs(found.objective - expected), `program ${i}`).toBeLessThan(1e-6 * Math.max(1, Math.abs(expected)));
      for (const { left, relation, right } of program.constraints) {
        const excess = valueAt(left, found.values) - valueAt(right, found.values);
        expect(relation === 'equal' ? Math.abs(excess) : excess, `program ${i}`).toBeLessThan(1e-4);
      }
    }
    expect(counts.optimal).toBeGreaterThan(500);
    expect(counts.infeasible).toBeGreaterThan(100);
    expect(counts.hangs).toBeLessThan(20);
  });

  it('solves a program from which the other solver does not return', async () => {
    const model = JSON.parse(readFileSync('test/fixtures/linear-programs/hangs.json', 'utf8')) as Recorded;
    expect(await second.solve(model)).toEqual({ status: 'hangs' });
    const program = programOf(model);
    const found = solve(program);
    if (found.status !== 'optimal') throw new Error(found.status);
    for (const { left, relation, right } of program.constraints) {
      const excess = valueAt(left, found.values) - valueAt(right, found.values);
      expect(relation === 'equal' ? Math.abs(excess) : excess).toBeLessThan(1e-6);
    }
    expect(found.objective).toBeCloseTo(valueAt(program.objective, found.values), 9);
  });

  it.each([
    ['infeasible', [{ name: 'c', left: variable('x'), relation: 'atMost', right: constant(-1) }]],
    ['infeasible', [{ name: 'c', left: constant(2), relation: 'atMost', right: constant(1) }]],
    ['unbounded', [{ name: 'c', left: constant(1), relation: 'atMost', right: variable('x') }]],
  ] as [string, Constraint[]][])('says that a program is %s', (status, constraints) => {
    expect(solve({ objective: variable('x', -1), constraints }).status).toBe(status);
  });
});

interface Recorded {
  readonly optimize: string;
  readonly opType: 'min';
  readonly constraints: Readonly<
    Record<string, { readonly equal?: number; readonly max?: number; readonly min?: number }>
  >;
  readonly variables: Record<string, Record<string, number>>;
}

function programOf({ constraints, variables }: Recorded): LinearProgram {
  const row = (key: string) => plus(...Object.entries(variables).map(([name, of]) => variable(name, of[key] ?? 0)));
  return {
    objective: row('o'),
    constraints: Object.entries(constraints).map(([name, { equal, max, min }]) => ({
      name,
      left: min === undefined ? row(name) : times(-1, row(name)),
      relation: equal === undefined ? 'atMost' : 'equal',
      right: constant(equal ?? max ?? -min!),
    })),
  };
}
