/**
 * Ctrl-C: once asks everything to stop at the next safe place, twice leaves at once. Both exit with 130.
 */
import { leave } from './engine.js';

export const INTERRUPTED_EXIT_CODE = 130;

/** The user asked to stop; `resume` says how to go on later. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
  constructor(readonly resume: string) {
    super(resume);
  }
}

/**
 * Calls `act` with a signal that Ctrl-C (or SIGTERM) aborts.
 *
 * @param onInterrupt says what happens now; called at the first Ctrl-C.
 * @param resume how to go on, told where `act` ends because of the signal.
 * @throws InterruptedError where it was interrupted, however `act` then ended by rejecting.
 */
export async function interruptible<T>(
  act: (signal: AbortSignal) => Promise<T>,
  onInterrupt: () => void,
  resume: string,
): Promise<T> {
  const controller = new AbortController();
  const interrupt = () => {
    if (controller.signal.aborted) return void leave(INTERRUPTED_EXIT_CODE);
    controller.abort();
    onInterrupt();
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    return await act(controller.signal);
  } catch (error) {
    if (controller.signal.aborted) throw new InterruptedError(resume);
    throw error;
  } finally {
    // Once interrupted the process is on its way out, and a second Ctrl-C must still end it with our exit code.
    if (!controller.signal.aborted) {
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
    }
  }
}
