/**
 * The engine of a device, kept open between shards: a model takes seconds to open and most of the memory.
 *
 * One engine at a time: opening another model closes the one before.
 */
import { EngineError } from '../engine/errors.js';
import type { Engine, EngineOptions } from '../engine/requests.js';

export interface EnginePool {
  /** Calls `act` with an engine of these options. Calls come one at a time: a device has one slot. */
  use<T>(options: EngineOptions, act: (engine: Engine) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** An engine that nobody asked for so long gives its memory back; a window of shards never pauses that long. */
const IDLE_MILLISECONDS = 5 * 60_000;

export function openEnginePool(
  openEngine: (options: EngineOptions) => Promise<Engine>,
  idleMilliseconds = IDLE_MILLISECONDS,
): EnginePool {
  let current: { readonly key: string; readonly engine: Engine } | undefined;
  let idle: NodeJS.Timeout | undefined;
  let last: Promise<unknown> = Promise.resolve();

  /** Calls never overlap, nor does closing with a call. */
  function queued<T>(act: () => Promise<T>): Promise<T> {
    const result = last.then(act);
    last = result.catch(() => undefined);
    return result;
  }

  async function discard(): Promise<void> {
    clearTimeout(idle);
    const discarded = current;
    current = undefined;
    await discarded?.engine.close();
  }

  async function engineFor(options: EngineOptions): Promise<Engine> {
    const key = JSON.stringify(Object.entries(options).sort());
    if (current?.key !== key) {
      await discard();
      current = { key, engine: await openEngine(options) };
    }
    return current.engine;
  }

  return {
    use: (options, act) =>
      queued(async () => {
        clearTimeout(idle);
        const engine = await engineFor(options);
        try {
          return await act(engine);
        } catch (error) {
          // A broken thread may be gone, and whoever stops a run wants the device's memory; the next attempt gets a new one.
          if (error instanceof EngineError && ['BACKEND', 'CANCELLED'].includes(error.code)) await discard();
          throw error;
        } finally {
          idle = setTimeout(() => void queued(discard), idleMilliseconds);
          idle.unref();
        }
      }),
    close: () => queued(discard),
  };
}
