/**
 * Text of tokens that come one by one: what a decoder of whole texts would give, as early as it is certain.
 *
 * A token may end within a character, and what a decoder does with a token may depend on the one before it. So each step
 * decodes the last tokens that gave text together with those that have not yet, and gives what is new.
 */

export interface TokenStream {
  /** The text that this id makes final: empty while a character is incomplete. */
  push(id: number): string;
  /** What was held back. */
  flush(): string;
}

/** What a decoder writes for bytes that are no complete character. */
const replacement = '\ufffd';

/** @param decode ids to text, special tokens handled as the caller wants them. */
export function openTokenStream(decode: (ids: readonly number[]) => string): TokenStream {
  let given: readonly number[] = [];
  let pending: number[] = [];
  const take = (isFinal: boolean): string => {
    const text = decode([...given, ...pending]).slice(decode(given).length);
    if (text === '' || (text.endsWith(replacement) && !isFinal)) return '';
    given = pending;
    pending = [];
    return text;
  };
  return {
    push: (id) => {
      pending.push(id);
      return take(false);
    },
    flush: () => take(true),
  };
}
