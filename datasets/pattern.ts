/**
 * Regular expressions of Python's `re`, the language that lm-eval tasks are written in, as JavaScript ones.
 *
 * The two look alike and differ where answers are scored: in Python `$` also matches before a final newline, `\d` and
 * `\w` know every script, `\-` is a dash anywhere, `(?P<name>...)` names a group, `(?s)` sets a flag. What has no
 * counterpart is refused by name rather than matched differently.
 */
import { InputError } from './errors.js';

/**
 * @param where names the file and key of the pattern in an error.
 * @returns an expression with the flag `g`, for `matchAll` and `replace`.
 * @throws InputError where the pattern is not one of Python's, or cannot be translated.
 */
export function pythonRegExp(pattern: string, where: string): RegExp {
  const refuse = (problem: string): never => {
    throw new InputError(`${where}: the pattern ${JSON.stringify(pattern)} ${problem}`);
  };
  const scan: Scan = { text: pattern, at: 0, flags: '', refuse };
  scan.flags = takeGlobalFlags(scan);
  const source = translate(scan);
  try {
    return new RegExp(source, scan.flags.includes('i') ? 'giv' : 'gv');
  } catch (error) {
    return refuse(`is not a regular expression: ${(error as Error).message.replace(/^.*: /, '')}`);
  }
}

/** Python's `re.findall`: each match is its text, its only group, or the list of its groups ('' where one took no part). */
export function findAll(pattern: RegExp, text: string): (string | readonly string[])[] {
  return Array.from(text.matchAll(pattern), ([whole, ...groups]) => {
    if (groups.length === 0) return whole;
    return groups.length === 1 ? (groups[0] ?? '') : groups.map((group) => group ?? '');
  });
}

interface Scan {
  readonly text: string;
  at: number;
  flags: string;
  readonly refuse: (problem: string) => never;
}

const wordClass = '\\p{L}\\p{N}_';
const word = `[${wordClass}]`;

function takeGlobalFlags(scan: Scan): string {
  const [all, flags] = /^\(\?([a-zA-Z]+)\)/.exec(scan.text) ?? ['', ''];
  scan.at = all.length;
  const unknown = [...flags].find((flag) => !'imsu'.includes(flag));
  if (unknown !== undefined) scan.refuse(`sets the flag "${unknown}"; the supported ones are i, m, s, u`);
  return flags;
}

function translate(scan: Scan): string {
  let source = '';
  while (scan.at < scan.text.length) source += next(scan);
  return source;
}

function next(scan: Scan): string {
  const rest = scan.text.slice(scan.at);
  const character = String.fromCodePoint(rest.codePointAt(0)!);
  switch (character) {
    case '(':
      return group(scan, rest);
    case '[':
      return characterClass(scan);
    case '\\':
      return escapeSequence(scan, false);
    case '.':
      return take(scan, 1, scan.flags.includes('s') ? '[\\s\\S]' : '[^\\n]');
    case '^':
      return take(scan, 1, scan.flags.includes('m') ? '(?:^|(?<=\\n))' : '^');
    case '$':
      return take(scan, 1, scan.flags.includes('m') ? '(?=\\n|$)' : '(?=\\n?$)');
    case '*':
    case '+':
    case '?':
      return quantifier(scan, character, 1);
    case '{':
      return repetition(scan, rest);
    case '|':
    case ')':
      return take(scan, 1, character);
    default:
      return take(scan, character.length, literal(character));
  }
}

function take(scan: Scan, length: number, source: string): string {
  scan.at += length;
  return source;
}

/** Letters and digits as they are, the rest by number, so that no character can mean anything. */
function literal(character: string): string {
  return /^[A-Za-z0-9 ]$/.test(character) ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

function group(scan: Scan, rest: string): string {
  if (!rest.startsWith('(?')) return take(scan, 1, '(');
  const plain = /^\(\?(?:[:=!]|<[=!])/.exec(rest)?.[0];
  if (plain !== undefined) return take(scan, plain.length, plain);
  const name = /^\(\?P<([^>]*)>/.exec(rest);
  if (name !== null) return take(scan, name[0].length, `(?<${name[1]}>`);
  const reference = /^\(\?P=([^)]*)\)/.exec(rest);
  if (reference !== null) return take(scan, reference[0].length, `\\k<${reference[1]}>`);
  const comment = /^\(\?#[^)]*\)/.exec(rest);
  if (comment !== null) return take(scan, comment[0].length, '');
  const kind = /^\(\?(?:>|\(|[a-zA-Z-]+[:)])/.exec(rest)?.[0] ?? rest.slice(0, 3);
  return scan.refuse(
    `has "${kind}", which is not supported; use plain groups, lookaround, and flags at the very start`,
  );
}

function quantifier(scan: Scan, source: string, length: number): string {
  scan.at += length;
  const lazy = scan.text[scan.at] === '?';
  if (lazy) scan.at += 1;
  if (scan.text[scan.at] === '+' && !lazy)
    scan.refuse(`has the possessive quantifier "${source}+", which is not supported`);
  return lazy ? `${source}?` : source;
}

/** A brace that is no repetition stands for itself. */
function repetition(scan: Scan, rest: string): string {
  const found = /^\{(\d*)(,?)(\d*)\}/.exec(rest);
  const [all, least, comma, most] = found ?? ['', '', '', ''];
  if (found === null || (least === '' && most === '')) return take(scan, 1, literal('{'));
  return quantifier(scan, `{${least || '0'}${comma}${most}}`, all!.length);
}

function characterClass(scan: Scan): string {
  const start = scan.at;
  scan.at += 1;
  let source = '[';
  if (scan.text[scan.at] === '^') source += take(scan, 1, '^');
  for (let first = true; scan.text[scan.at] !== ']' || first; first = false) {
    const code = scan.text.codePointAt(scan.at);
    if (code === undefined) scan.refuse(`opens a class at character ${start + 1} and does not close it`);
    const character = String.fromCodePoint(code!);
    if (character === '\\') source += escapeSequence(scan, true);
    else if (character === '-' && isRange(scan, first)) source += take(scan, 1, '-');
    else source += take(scan, character.length, literal(character));
  }
  return take(scan, 1, `${source}]`);
}

/** A dash at either end of a class stands for itself. */
function isRange(scan: Scan, first: boolean): boolean {
  return !first && scan.text[scan.at + 1] !== ']';
}

/** Python's escapes; a letter without a meaning is an error there too. */
function escapeSequence(scan: Scan, inClass: boolean): string {
  const rest = scan.text.slice(scan.at + 1);
  if (rest === '') scan.refuse('ends with a backslash');
  const character = String.fromCodePoint(rest.codePointAt(0)!);
  const numeric = /^(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})/.exec(rest)?.[0];
  if (numeric !== undefined) return take(scan, numeric.length + 1, `\\u{${numeric.slice(1).replace(/^0+(?=.)/, '')}}`);
  const octal = /^(?:0[0-7]{0,2}|[1-3][0-7]{2})/.exec(rest)?.[0];
  if (octal !== undefined) return take(scan, octal.length + 1, `\\u{${Number.parseInt(octal, 8).toString(16)}}`);
  const reference = /^[1-9]\d?/.exec(rest)?.[0];
  if (reference !== undefined && !inClass) return take(scan, reference.length + 1, `(?:\\${reference})`);
  const meaning = (inClass ? classEscapes : escapes)[character] ?? sharedEscapes[character];
  if (meaning !== undefined) return take(scan, 2, meaning);
  if (/[A-Za-z0-9]/.test(character)) scan.refuse(`has "\\${character}", which means nothing in Python's expressions`);
  return take(scan, character.length + 1, literal(character));
}

const sharedEscapes: Readonly<Record<string, string>> = {
  a: '\\u{7}',
  f: '\\f',
  n: '\\n',
  r: '\\r',
  t: '\\t',
  v: '\\v',
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  s: '\\s',
  S: '\\S',
  W: `[^${wordClass}]`,
};

const escapes: Readonly<Record<string, string>> = {
  A: '^',
  Z: '$',
  b: `(?:(?<=${word})(?!${word})|(?<!${word})(?=${word}))`,
  B: `(?:(?<=${word})(?=${word})|(?<!${word})(?!${word}))`,
  w: word,
};

const classEscapes: Readonly<Record<string, string>> = { b: '\\u{8}', w: wordClass };
