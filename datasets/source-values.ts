/**
 * Cells of Parquet and Arrow as the values of JSON, which is what templates, shards and outputs hold.
 */

/**
 * 64-bit integers become numbers where those are exact, else decimal text; dates ISO text; bytes base64; what is iterable a
 * list; what is keyed an object.
 */
export function plainValue(value: unknown): unknown {
  switch (typeof value) {
    case 'bigint':
      return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : String(value);
    case 'undefined':
      return null;
    case 'number':
      return Number.isFinite(value) ? value : String(value);
    case 'object':
      return value === null ? null : plainObject(value);
    default:
      return value;
  }
}

function plainObject(value: object): unknown {
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (value instanceof Map) return plainEntries([...value]);
  if ('toJSON' in value && typeof value.toJSON === 'function' && !Array.isArray(value)) {
    const json = value.toJSON() as unknown;
    if (json !== value) return plainValue(json);
  }
  if (Symbol.iterator in value) return Array.from(value as Iterable<unknown>, plainValue);
  return plainEntries(Object.entries(value));
}

function plainEntries(entries: readonly (readonly [unknown, unknown])[]): Record<string, unknown> {
  return Object.fromEntries(entries.map(([key, entry]) => [String(key), plainValue(entry)]));
}
