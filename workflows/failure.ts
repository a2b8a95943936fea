/** What a failed activity died of, in place of "activity task failed". */
import { ActivityFailure, ApplicationFailure, isCancellation, TimeoutFailure } from '@temporalio/workflow';

/** Calls an activity; where it fails, the workflow fails with the activity's own reason. @param what begins the message. */
export async function explained<T>(what: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (isCancellation(error)) throw error;
    const cause = error instanceof ActivityFailure && error.cause ? error.cause : (error as Error);
    throw ApplicationFailure.create({
      message: `${what}${cause.message}`,
      type: typeOf(cause),
      details: cause instanceof ApplicationFailure ? (cause.details ?? []) : [],
      cause,
      nonRetryable: true,
    });
  }
}

function typeOf(cause: Error): string {
  if (cause instanceof ApplicationFailure && cause.type) return cause.type;
  return cause instanceof TimeoutFailure ? 'Timeout' : 'Error';
}
