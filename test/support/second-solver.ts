/**
 * A second linear programming solver, on a thread that can be ended: it does not return from some programs.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import javascriptLpSolver, { type Model } from 'javascript-lp-solver';
import { type LinearProgram, rowOf } from '../../engine/policy/linear-program.js';

export type SecondOpinion =
  | { readonly status: 'optimal'; readonly objective: number }
  | { readonly status: 'infeasible' | 'unbounded' | 'hangs' };

export interface SecondSolver {
  solve(model: Model): Promise<SecondOpinion>;
  close(): Promise<void>;
}

/** The package declares its types as CommonJS, and gives the solver itself as its default to an import. */
const solver = javascriptLpSolver as unknown as (typeof javascriptLpSolver)['default'];

const WATCHDOG_MILLISECONDS = 2_000;

export function openSecondSolver(): SecondSolver {
  let worker: Worker | undefined;
  return {
    async solve(model) {
      worker ??= new Worker(fileURLToPath(import.meta.url));
      const running = worker;
      const answer = await new Promise<SecondOpinion>((resolve, reject) => {
        const watchdog = setTimeout(() => resolve({ status: 'hangs' }), WATCHDOG_MILLISECONDS);
        running.once('error', reject);
        running.once('message', (opinion: SecondOpinion) => {
          clearTimeout(watchdog);
          resolve(opinion);
        });
        running.postMessage(model);
      });
      running.removeAllListeners('error');
      if (answer.status === 'hangs') {
        await running.terminate();
        worker = undefined;
      }
      return answer;
    },
    async close() {
      await worker?.terminate();
    },
  };
}

/** As this solver takes them. */
export function modelOf({ objective, constraints }: LinearProgram): Model {
  const names = new Set(Object.keys(objective.terms));
  const rows = constraints.map(rowOf);
  for (const { terms } of rows) for (const [name] of terms) names.add(name);
  const variables: Record<string, Record<string, number>> = {};
  for (const name of names) variables[name] = { cost: objective.terms[name] ?? 0 };
  rows.forEach(({ terms }, i) => {
    for (const [name, coefficient] of terms) variables[name]![`c${i}`] = coefficient;
  });
  const bounds = rows.map(({ relation, right }, i) => [`c${i}`, { [relation === 'equal' ? 'equal' : 'max']: right }]);
  return { optimize: 'cost', opType: 'min', constraints: Object.fromEntries(bounds), variables };
}

if (!isMainThread) {
  parentPort?.on('message', (model: Model) => {
    const result = solver.Solve(model) as { feasible: boolean; bounded: boolean; result: number };
    const status = !result.feasible ? 'infeasible' : result.bounded ? 'optimal' : 'unbounded';
    parentPort?.postMessage({ status, objective: result.result });
  });
}
