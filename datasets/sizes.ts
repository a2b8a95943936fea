/** Sizes as people write them: "550MB", "16GiB", "1.5g". */

/** What a wrong size is answered with. */
export const SIZE_FORM = 'a size such as 550MB, 16GiB or 1.5g (MB is 10^6 bytes, MiB is 2^20)';

/** @returns whole bytes, or undefined where the text is no size of at least one byte. */
export function parseBytes(text: string): number | undefined {
  const found = /^\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(i?))?b?\s*$/i.exec(text);
  if (!found) return undefined;
  const [, digits, prefix = '', binary] = found;
  const power = ' kmgt'.indexOf(prefix.toLowerCase() || ' ');
  const bytes = Math.floor(Number(digits) * (binary ? 1024 : 1000) ** power);
  return bytes >= 1 && Number.isSafeInteger(bytes) ? bytes : undefined;
}
