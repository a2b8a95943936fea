/** The door to HiGHS, which solves linear programs: a simplex method in WebAssembly, on the calling thread. */
import loadHighs from 'highs';
import { EngineError } from '../errors.js';
import { type LinearProgram, type Outcome, type Row, rowOf, type Solve } from './linear-program.js';

/** The package declares its types as CommonJS, and gives the function itself as its default to an import. */
const load = loadHighs as unknown as (typeof loadHighs)['default'];

/** Takes a few milliseconds, and each program two more. */
export async function openSolver(): Promise<Solve> {
  const highs = await load();
  return (program) => {
    const rows = program.constraints.map(rowOf);
    const names = variablesOf(program, rows);
    // A row without variables is true or false by itself, and the format cannot say it.
    if (rows.some((row) => row.terms.length === 0 && !holds(row))) return { status: 'infeasible' };
    const solution = highs.solve(textOf(program, rows, names), { output_flag: false });
    return outcomeOf(solution, program, names);
  };
}

/** In the CPLEX LP format. Variables are called x0, x1, ...: it allows few characters in names. */
function textOf({ objective }: LinearProgram, rows: readonly Row[], names: readonly string[]): string {
  const index = new Map(names.map((name, i) => [name, `x${i}`]));
  const sum = (terms: Row['terms']) =>
    terms
      .map(([name, coefficient]) => `${coefficient < 0 ? '-' : '+'} ${Math.abs(coefficient)} ${index.get(name)}`)
      .join(' ');
  return [
    'Minimize',
    ` cost: ${sum(Object.entries(objective.terms)) || '0 x0'}`,
    'Subject To',
    ...rows
      .filter(({ terms }) => terms.length > 0)
      .map(({ terms, relation, right }, i) => ` c${i}: ${sum(terms)} ${relation === 'equal' ? '=' : '<='} ${right}`),
    'End',
  ].join('\n');
}

function variablesOf({ objective }: LinearProgram, rows: readonly Row[]): string[] {
  const inRows = rows.flatMap(({ terms }) => terms.map(([name]) => name));
  return [...new Set([...Object.keys(objective.terms), ...inRows])];
}

type Solution = ReturnType<Awaited<ReturnType<typeof load>>['solve']>;

function outcomeOf(solution: Solution, { objective }: LinearProgram, names: readonly string[]): Outcome {
  switch (solution.Status) {
    case 'Optimal': {
      const columns = solution.Columns as Readonly<Record<string, { readonly Primal: number }>>;
      const values = names.map((name, i) => [name, columns[`x${i}`]?.Primal ?? 0] as const);
      return {
        status: 'optimal',
        objective: solution.ObjectiveValue + objective.constant,
        values: Object.fromEntries(values),
      };
    }
    case 'Infeasible':
      return { status: 'infeasible' };
    case 'Unbounded':
      return { status: 'unbounded' };
    default:
      throw new EngineError('BACKEND', `the linear program was not solved: HiGHS says ${solution.Status}`, {
        status: solution.Status,
      });
  }
}

function holds({ relation, right }: Row): boolean {
  return relation === 'equal' ? right === 0 : right >= 0;
}
