/**
 * Results: text for people, or one JSON object that ends stdout for scripts.
 */

/** Writes a line of a result for people. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** What a person should know that is not the result. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** The last line of stdout: one object, on one line. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
