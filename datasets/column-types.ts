/**
 * Types of source columns in the output, from the values of the whole run: a query over all parts needs them to agree.
 */

export type ColumnType = 'string' | 'int64' | 'double' | 'boolean' | 'json';

/** Types of many rows, one row at a time. */
export interface ColumnTypes {
  add(columns: Readonly<Record<string, unknown>>): void;
  types(): Readonly<Record<string, ColumnType>>;
}

export function openColumnTypes(): ColumnTypes {
  const kinds = new Map<string, Set<ColumnType>>();
  return {
    add(columns) {
      for (const [name, value] of Object.entries(columns)) {
        const found = kinds.get(name) ?? new Set();
        kinds.set(name, found);
        if (value !== null && value !== undefined) found.add(kindOf(value));
      }
    },
    types: () => Object.fromEntries(Array.from(kinds, ([name, found]) => [name, narrowest(found)])),
  };
}

/** The narrowest type that holds every value. A column of nulls is one of strings. */
export function typeOf(values: readonly unknown[]): ColumnType {
  return narrowest(new Set(values.filter((value) => value !== null).map(kindOf)));
}

function narrowest(kinds: ReadonlySet<ColumnType>): ColumnType {
  if (kinds.size === 0) return 'string';
  if (kinds.size === 1) return [...kinds][0]!;
  return [...kinds].every((kind) => kind === 'int64' || kind === 'double') ? 'double' : 'json';
}

function kindOf(value: unknown): ColumnType {
  if (typeof value === 'string') return 'string';
  if (typeof value === 'boolean') return 'boolean';
  if (typeof value === 'bigint') return BigInt.asIntN(64, value) === value ? 'int64' : 'json';
  if (typeof value === 'number') return Number.isSafeInteger(value) && !Object.is(value, -0) ? 'int64' : 'double';
  return 'json';
}
