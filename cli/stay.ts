/** Commands that stay: they serve until Ctrl-C or SIGTERM, which is how they are meant to end, with exit code 0. */
import { leave } from './engine.js';
import { INTERRUPTED_EXIT_CODE } from './interrupt.js';

/**
 * Opens something, keeps the process alive, and closes it at the first Ctrl-C; a second one leaves at once.
 *
 * @param open returns how to close what it opened; it may call `fail` at any later time, which closes and rejects.
 */
export async function untilStopped(
  open: (signal: AbortSignal, fail: (error: Error) => void) => Promise<() => Promise<void>>,
): Promise<void> {
  const stopping = new AbortController();
  let failure: Error | undefined;
  const stop = () => (stopping.signal.aborted ? void leave(INTERRUPTED_EXIT_CODE) : stopping.abort());
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  const fail = (error: Error) => {
    failure = error;
    stopping.abort();
  };
  try {
    const close = await open(stopping.signal, fail).catch((error) => {
      if (stopping.signal.aborted) return undefined;
      throw error;
    });
    await aborted(stopping.signal);
    await close?.();
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
  if (failure) throw failure;
}

/** An interval keeps the process alive meanwhile. */
function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const alive = setInterval(() => undefined, 60_000);
    const end = () => {
      clearInterval(alive);
      resolve();
    };
    signal.addEventListener('abort', end, { once: true });
  });
}
