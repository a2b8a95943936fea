/**
 * What can go wrong inside the engine, as a closed set of codes.
 *
 * Errors are thrown at the border (files, drivers, what the user typed); inside, types and tests hold the invariants.
 */

/** BAD_INPUT: a request or option of the caller. BAD_WEIGHTS: a model file that is damaged or contradicts itself. */
export type EngineErrorCode = 'BAD_INPUT' | 'BAD_WEIGHTS' | 'UNSUPPORTED' | 'OUT_OF_MEMORY' | 'CANCELLED' | 'BACKEND';

/** An error whose message says what was needed, what was found and what to change; `details` carries the numbers. */
export class EngineError extends Error {
  override readonly name = 'EngineError';
  constructor(
    readonly code: EngineErrorCode,
    message: string,
    readonly details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
