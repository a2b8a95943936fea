/** From what a person calls a run to its directory. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { nearest } from '../datasets/suggest.js';

/** Where pipelines put their runs unless they say otherwise. */
const RUNS = 'runs';

/**
 * Directory of a run.
 * @param reference a directory with a run.json, or the name of one below `runs/`.
 * @throws InputError that says which runs there are.
 */
export function findRun(reference: string): string {
  const candidates = [resolve(reference), resolve(RUNS, reference)];
  const found = candidates.find((directory) => existsSync(join(directory, 'run.json')));
  if (found !== undefined) return found;
  const names = existsSync(RUNS) ? readdirSync(RUNS).filter((name) => existsSync(join(RUNS, name, 'run.json'))) : [];
  const near = nearest(basename(reference), names);
  const known = names.length === 0 ? `no run is in ${resolve(RUNS)}` : `runs here: ${names.join(', ')}`;
  throw new InputError(
    `there is no run ${JSON.stringify(reference)}${near === undefined ? '' : ` (did you mean ${near}?)`}; ${known}`,
  );
}
