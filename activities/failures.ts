/** From errors of the engine and the datasets to failures that Temporal understands: retry, or give up and say why. */
import { activityInfo, Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { InputError } from '../datasets/errors.js';
import { EngineError, type EngineErrorCode } from '../engine/errors.js';

/** Whether another attempt can help. A new code does not compile until it is decided here. */
const retryable: Readonly<Record<EngineErrorCode, boolean>> = {
  BAD_INPUT: false,
  BAD_WEIGHTS: false,
  UNSUPPORTED: false,
  OUT_OF_MEMORY: false,
  CANCELLED: true,
  BACKEND: true,
};

/** Attempts after which an error is taken for permanent. A worker that dies is another matter: that has no limit. */
export const MAX_ATTEMPTS = 5;

/** Type of the failure that an InputError becomes. */
export const INPUT_FAILURE = 'InputError';

/** Calls an activity's body; where it was told to stop, it ends as cancelled, whatever it ended with. */
export async function explainingFailures<T>(act: () => Promise<T>): Promise<T> {
  const { cancellationSignal, cancelled } = Context.current();
  try {
    return await act();
  } catch (error) {
    if (cancellationSignal.aborted) return await cancelled;
    throw toFailure(error, activityInfo().attempt);
  }
}

export function toFailure(error: unknown, attempt: number): unknown {
  if (error instanceof ApplicationFailure) return error;
  if (error instanceof InputError) {
    return ApplicationFailure.create({ type: INPUT_FAILURE, message: error.message, nonRetryable: true, cause: error });
  }
  const isLast = attempt >= MAX_ATTEMPTS;
  if (error instanceof EngineError) {
    const { code, message, details } = error;
    const nonRetryable = isLast || !retryable[code];
    return ApplicationFailure.create({ type: code, message, details: [details], nonRetryable, cause: error });
  }
  const { name, message } = error instanceof Error ? error : { name: 'Error', message: String(error) };
  const cause = error instanceof Error ? error : new Error(message);
  return ApplicationFailure.create({ type: name, message, nonRetryable: isLast, cause });
}

/** The error that a failure was made of, as the command line explains it. */
export function fromFailure(failure: ApplicationFailure): Error {
  const { type, message, details } = failure;
  if (type === INPUT_FAILURE) return new InputError(message, { cause: failure });
  if (type && Object.hasOwn(retryable, type)) {
    const numbers = (details?.[0] ?? {}) as Record<string, unknown>;
    return new EngineError(type as EngineErrorCode, message, numbers, { cause: failure });
  }
  return new Error(message, { cause: failure });
}
