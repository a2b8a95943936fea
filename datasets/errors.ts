/** Bad input of the user: a file, a line, a key. The command line answers with exit code 2 and no stack trace. */
export class InputError extends Error {
  override readonly name = 'InputError';
  /** @param message what, where (file, line or key), what was found, and what to change. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
  }
}
