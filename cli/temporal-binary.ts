/** The Temporal program, by the same finder that the bootstrap uses; its failures are bad input of the machine's owner. */
import { InputError } from '../datasets/errors.js';

type Finder = typeof import('../bootstrap/temporal-binary.mjs');

export type { TemporalBinary } from '../bootstrap/temporal-binary.mjs';

/** The program, fetched if need be. @throws InputError naming each place that was tried and what to do by hand. */
export async function ensureTemporalBinary(options: Parameters<Finder['ensureTemporalBinary']>[0] = {}) {
  const finder = await loadFinder();
  try {
    return await finder.ensureTemporalBinary(options);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new InputError((error as Error).message, { cause: error });
  }
}

/** The program if it is there already. */
export async function findTemporalBinary(env?: NodeJS.ProcessEnv) {
  return (await loadFinder()).findTemporalBinary(env);
}

/** The bootstrap is not compiled, so from dist/cli it lies two directories up. */
function loadFinder(): Promise<Finder> {
  return import(new URL('../../bootstrap/temporal-binary.mjs', import.meta.url).href);
}
