/**
 * HTML that cannot be broken by what is put into it.
 *
 * The tag `html` escapes every value, so prompts and answers may hold any markup; only what the tag made itself is put in
 * as it is.
 */

/** Made by `html`, and therefore safe to put into a page. */
export interface Html {
  readonly markup: string;
}

export type Content = Html | string | number | null | readonly Content[];

/** Escapes its values; lists are put in one after the other, null as nothing. */
export function html(literals: TemplateStringsArray, ...values: readonly Content[]): Html {
  return {
    markup: literals.reduce((markup, literal, index) => markup + rendered(values[index - 1] ?? null) + literal),
  };
}

/** Markup of ours that is not escaped: a style sheet, a script. Never give it text of a user. */
export function trusted(markup: string): Html {
  return { markup };
}

function rendered(value: Content): string {
  if (value === null) return '';
  if (typeof value === 'object') return 'markup' in value ? value.markup : value.map(rendered).join('');
  return String(value).replace(/[&<>"']|(?![\t\n\r])\p{Cc}/gu, (character) => entities[character] ?? '\ufffd');
}

/** Control characters have no place in HTML, and none of these stands for one. */
const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
