/** What a failed activity died of. */
import { ActivityFailure, ApplicationFailure, TimeoutFailure } from '@temporalio/workflow';

export interface Reason {
  readonly message: string;
  readonly type: string;
  readonly details: unknown[];
  readonly cause: Error;
}

/** The innermost reason that says something: of the activity, not of its wrapping. */
export function failureOf(error: unknown): Reason {
  const cause = error instanceof ActivityFailure && error.cause ? error.cause : (error as Error);
  if (cause instanceof ApplicationFailure) {
    return { message: cause.message, type: cause.type ?? 'Error', details: cause.details ?? [], cause };
  }
  const type = cause instanceof TimeoutFailure ? 'Timeout' : 'Error';
  return { message: cause.message, type, details: [], cause };
}
