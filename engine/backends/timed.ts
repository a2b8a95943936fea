/** A backend that tells how long each of its calls took: what is left of a sweep is waiting, and work of the loops. */
import type { Backend } from './backend.js';

export function timedBackend(backend: Backend, onSeconds: (seconds: number) => void): Backend {
  const timed =
    <Args extends unknown[], Result>(call: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      const start = performance.now();
      try {
        return await call.apply(backend, args);
      } finally {
        onSeconds((performance.now() - start) / 1000);
      }
    };
  return {
    name: backend.name,
    sharesBlocks: backend.sharesBlocks,
    numerics: backend.numerics,
    async keep(layer, weights) {
      const kept = await backend.keep(layer, weights);
      return { project: timed(kept.project), finish: timed(kept.finish) };
    },
    attendRows: timed(backend.attendRows),
    attendCache: timed(backend.attendCache),
    norm: timed(backend.norm),
    multiply: timed(backend.multiply),
    rotate: timed(backend.rotate),
    feed: timed(backend.feed),
    head: timed(backend.head),
    close: () => backend.close(),
  };
}
