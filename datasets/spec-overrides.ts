/**
 * `--set key.path=value`: settings of the command line, laid over those of a file.
 */
import { InputError } from './errors.js';
import { type KeyPath, parseYamlValue } from './yaml.js';

export interface Overridden {
  readonly value: unknown;
  /** The option that a key comes from, as it was typed; undefined where it is the file's. */
  optionAt(keys: KeyPath): string | undefined;
}

/** @throws InputError where an option is not `key=value`, or reaches into something that has no keys. */
export function applyOverrides(settings: object, overrides: readonly string[]): Overridden {
  const value = structuredClone(settings) as Record<string, unknown>;
  const applied = overrides.map((text) => {
    const { keys, setting } = parseOverride(text);
    setAt(value, keys, setting, text);
    return { keys, text };
  });
  return {
    value,
    optionAt(keys) {
      const from = applied.findLast((override) =>
        override.keys.every((key, i) => i < keys.length && String(keys[i]) === key),
      );
      return from === undefined ? undefined : `--set ${from.text}`;
    },
  };
}

function parseOverride(text: string): { keys: string[]; setting: unknown } {
  const equals = text.indexOf('=');
  const keys = text.slice(0, equals).split('.');
  if (equals < 1 || keys.includes('')) {
    throw new InputError(`--set ${text}: needs key=value, such as engine.threads=4 or generate.stop='["\\n"]'`);
  }
  try {
    return { keys, setting: parseYamlValue(text.slice(equals + 1)) };
  } catch (error) {
    throw new InputError(`--set ${text}: the value is not valid YAML; quote it`, { cause: error });
  }
}

function setAt(root: Record<string, unknown>, keys: readonly string[], setting: unknown, text: string): void {
  let here = root;
  for (const key of keys.slice(0, -1)) {
    here[key] ??= {};
    const next = here[key];
    if (typeof next !== 'object' || next === null || Array.isArray(next)) {
      throw new InputError(
        `--set ${text}: "${key}" is ${JSON.stringify(next)} and has no keys inside; set "${key}" as a whole`,
      );
    }
    here = next as Record<string, unknown>;
  }
  here[keys.at(-1)!] = setting;
}
