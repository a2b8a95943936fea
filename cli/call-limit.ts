/** Calls to Temporal that end with a signal, or after a time. */
import type { Client } from '@temporalio/client';

export interface CallLimit {
  readonly milliseconds: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Calls `act`, whose calls of `client` are cancelled when the signal aborts or the time is over.
 *
 * The client listens to the signal it is given once for each call and never stops to, and a long poll is many calls:
 * so it is given one that lives as long as `act`, and the caller's keeps no listener.
 */
export async function withCallLimit<T>(
  client: Pick<Client, 'withAbortSignal'>,
  { milliseconds, signal }: CallLimit,
  act: () => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const abort = () => limit.abort();
  const timer = setTimeout(abort, milliseconds);
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await client.withAbortSignal(limit.signal, act);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}
