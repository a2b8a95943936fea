/**
 * Values of the Jinja interpreter: as Python would write them, and as plain data.
 */

/** A value of the interpreter: a list holds such values, an object a Map of them. */
export interface JinjaValue {
  readonly type: string;
  readonly value: unknown;
  toString(): string;
}

/** @throws RangeError where the value is not defined. */
export function pythonText(value: JinjaValue): string {
  if (value.type === 'StringValue') return String(value.value);
  return pythonLiteral(value);
}

/** Plain data: numbers, texts, lists and objects. @throws RangeError where a value is not defined. */
export function plainOf(value: JinjaValue): unknown {
  switch (value.type) {
    case 'UndefinedValue':
      throw new RangeError('a value that is not there is used; does the column have that key?');
    case 'NullValue':
      return null;
    case 'ArrayValue':
    case 'TupleValue':
      return (value.value as JinjaValue[]).map(plainOf);
    case 'ObjectValue':
      return Object.fromEntries(
        [...(value.value as Map<string, JinjaValue>)].map(([key, entry]) => [key, plainOf(entry)]),
      );
    default:
      return value.value;
  }
}

function pythonLiteral(value: JinjaValue): string {
  switch (value.type) {
    case 'UndefinedValue':
      throw new RangeError('a value that is not there is used; does the column have that key?');
    case 'NullValue':
      return 'None';
    case 'BooleanValue':
      return value.value === true ? 'True' : 'False';
    case 'StringValue':
      return quoted(String(value.value));
    case 'ArrayValue':
      return `[${(value.value as JinjaValue[]).map(pythonLiteral).join(', ')}]`;
    case 'ObjectValue': {
      const entries = [...(value.value as Map<string, JinjaValue>)];
      return `{${entries.map(([key, entry]) => `${quoted(key)}: ${pythonLiteral(entry)}`).join(', ')}}`;
    }
    default:
      return value.toString();
  }
}

/** Python prefers single quotation marks, and takes double ones where the text has only single ones. */
function quoted(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escapes: Readonly<Record<string, string>> = {
    '\\': '\\\\',
    '\n': '\\n',
    '\r': '\\r',
    '\t': '\\t',
    [mark]: `\\${mark}`,
  };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped
  const escaped = text.replaceAll(/[\\\n\r\t'"\x00-\x1f\x7f]/g, (char) => {
    const known = escapes[char];
    if (known !== undefined) return known;
    return char === "'" || char === '"' ? char : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return mark + escaped + mark;
}
