/** Steps that read, one begun ahead: it runs on other threads while this one computes with what the step before it read. */

/**
 * @param overlap false begins each step only when it is asked for
 * @returns gives the results in order. Whoever stops early leaves one step under way.
 */
export function readAhead<Result>(steps: readonly (() => Promise<Result>)[], overlap: boolean): () => Promise<Result> {
  let next = 0;
  let ahead: Promise<Result> | undefined;
  const begin = () => {
    ahead = steps[next++]?.();
    // The error reaches whoever asks for the step; until then it must not count as unhandled.
    ahead?.catch(() => undefined);
  };
  if (overlap) begin();
  return async () => {
    if (!ahead) begin();
    const result = await ahead!;
    ahead = undefined;
    if (overlap) begin();
    return result;
  };
}
