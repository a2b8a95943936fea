/** Heartbeats at a steady pace, from the thread that never computes: a worker that is silent is taken for dead. */
import { heartbeat } from '@temporalio/activity';

/** Often enough that the UI is lively, and that several may be lost before the timeout. */
export const HEARTBEAT_MILLISECONDS = 1_000;

/** Calls `act` while sending what `details` then returns. */
export async function withHeartbeat<T>(act: () => Promise<T>, details?: () => unknown): Promise<T> {
  const timer = setInterval(() => heartbeat(details?.()), HEARTBEAT_MILLISECONDS);
  try {
    return await act();
  } finally {
    clearInterval(timer);
  }
}
