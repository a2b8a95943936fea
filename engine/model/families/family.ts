/**
 * What a family of models declares: how its configuration reads, and where its tensors lie.
 *
 * Adding a family is adding a declaration to the list in `index.ts`.
 */
import { EngineError } from '../../errors.js';
import type { Activation, ModelConfig } from '../config.js';
import type { Fields } from '../json.js';

export interface Family {
  readonly name: string;
  readonly hf?: HfDeclaration;
  readonly gguf?: GgufDeclaration;
}

export interface HfDeclaration {
  /** Values of `model_type` in config.json. */
  readonly modelTypes: readonly string[];
  parse(config: Fields): ModelConfig;
  /** What files put for `{prefix}`: the first under which they hold the embedding table. */
  readonly prefixes: readonly string[];
  readonly places: Places;
}

export interface GgufDeclaration {
  /** Value of `general.architecture`, which also begins the names of the family's metadata. */
  readonly architecture: string;
  parse(metadata: Fields, file: GgufFacts): ModelConfig;
  readonly places: Places;
}

/** What a GGUF file says by its tensors rather than by its metadata. */
export interface GgufFacts {
  /** Shape of a tensor, the slowest dimension first, or undefined where there is none. */
  shape(name: string): readonly number[] | undefined;
  /** Values of `rope_freqs.weight`, where the file has it. */
  readonly ropeFactors: readonly number[] | undefined;
}

/** The engine's name of a module (`layers.{i}.experts.{e}.up`, without `.weight` or `.bias`) and the file's. */
export type Places = Readonly<Record<string, string | Place>>;

/** A tensor of the engine within a tensor of the file. */
export interface Place {
  readonly name: string;
  /** For a row of the engine's tensor, the row of the file's, where they differ. @param expert of a tensor that has one */
  readonly fileRow?: (config: ModelConfig, row: number, expert: number) => number;
  /** Shape of the file's tensor, where it differs from the engine's. */
  readonly fileShape?: (config: ModelConfig, shape: readonly number[]) => readonly number[];
  /** What the file leaves out of each value. */
  readonly plus?: number;
}

/** A tensor's place, and which expert it belongs to. */
export interface FoundPlace extends Place {
  readonly expert: number;
}

/** The file's module for a tensor of the engine. @param prefix what stands for `{prefix}`. */
export function placeOf(places: Places, name: string, prefix: string): FoundPlace | undefined {
  const dot = name.lastIndexOf('.');
  const layer = /^layers\.(\d+)\./.exec(name)?.[1] ?? '';
  const expert = /\.experts\.(\d+)\./.exec(name)?.[1] ?? '';
  const module = name
    .slice(0, dot)
    .replace(/^layers\.\d+\./, 'layers.{i}.')
    .replace(/\.experts\.\d+\./, '.experts.{e}.');
  const place = Object.hasOwn(places, module) ? places[module] : undefined;
  if (place === undefined) return undefined;
  const { name: pattern, ...rest } = typeof place === 'string' ? { name: place } : place;
  const found = pattern.replace('{prefix}', prefix).replace('{i}', layer).replace('{e}', expert);
  return { name: found + name.slice(dot), ...rest, expert: Number(expert) };
}

/** Some rows of a larger tensor: where they begin, and how many rows it has. */
export function rowsWithin(
  name: string,
  firstRow: (config: ModelConfig) => number,
  rows: (config: ModelConfig) => number,
): Place {
  return {
    name,
    fileRow: (config, row) => firstRow(config) + row,
    fileShape: (config, shape) => [rows(config), ...shape.slice(1)],
  };
}

/** @throws UNSUPPORTED, naming what was found and what is supported. */
export function unsupported(source: string, key: string, found: unknown, supported: readonly unknown[]): EngineError {
  return new EngineError(
    'UNSUPPORTED',
    `${source}: ${key}: found ${JSON.stringify(found)}; supported: ${supported.map((value) => JSON.stringify(value)).join(', ')}`,
    { path: source, key, found, supported },
  );
}

/** A field that must be one of a few texts. @throws UNSUPPORTED, with those. */
export function choice<T extends string>(fields: Fields, key: string, choices: readonly T[], fallback: T): T {
  const found = fields.text(key, fallback);
  const known = choices.find((value) => value === found);
  if (known === undefined) throw unsupported(fields.source, key, found, choices);
  return known;
}

const activations: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  relu: 'relu',
  gelu: 'gelu',
  gelu_new: 'geluTanh',
  gelu_fast: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
};

/** A feed-forward network's activation, by its name in config.json. @throws UNSUPPORTED, with those there are. */
export function activationOf(fields: Fields, key: string, fallback: string): Activation {
  return activations[choice(fields, key, Object.keys(activations), fallback)]!;
}

/** A number that null switches off. */
export function numberOrNull(fields: Fields, key: string, fallback: number | undefined): number | undefined {
  const found = fields.raw(key);
  if (found === null || (found === undefined && fallback === undefined)) return undefined;
  return fields.number(key, fallback);
}

/** A number that must divide another. @throws BAD_WEIGHTS naming both. */
export function quotient(fields: Fields, dividend: string, divisor: string, values: readonly [number, number]): number {
  const [whole, parts] = values;
  if (whole % parts === 0) return whole / parts;
  throw new EngineError('BAD_WEIGHTS', `${fields.source}: ${dividend} ${whole} is no multiple of ${divisor} ${parts}`, {
    path: fields.source,
    [dividend]: whole,
    [divisor]: parts,
  });
}
