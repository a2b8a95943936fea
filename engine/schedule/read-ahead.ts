/** Reads one item ahead: on other threads, while this one computes with the item before. */

/**
 * @param overlap false begins each read only when it is asked for
 * @returns gives what was read, in the order of the items. Whoever stops early leaves one read under way.
 */
export function readAhead<Item, Result>(
  items: readonly Item[],
  read: (item: Item) => Promise<Result>,
  overlap: boolean,
): () => Promise<Result> {
  let next = 0;
  let ahead: Promise<Result> | undefined;
  const begin = () => {
    if (next === items.length) return;
    ahead = read(items[next++]!);
    // The error reaches whoever asks for the item; until then it must not count as unhandled.
    ahead.catch(() => undefined);
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
