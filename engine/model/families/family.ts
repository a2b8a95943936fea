/**
 * What a family of models declares: how its configuration reads, and where its tensors lie.
 *
 * Adding a family is adding a declaration to the list in `index.ts`.
 */
import { EngineError } from '../../errors.js';
import type { ModelConfig } from '../config.js';
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

/** The engine's name of a module (`layers.{i}.query`, without `.weight` or `.bias`) and the file's. */
export type Places = Readonly<Record<string, string | Place>>;

export interface Place {
  readonly name: string;
  /** For a row of the engine's tensor, the row of the file's. */
  readonly fileRow: (config: ModelConfig, row: number) => number;
}

/** The file's module for a tensor of the engine. @param prefix what stands for `{prefix}`. */
export function placeOf(places: Places, name: string, prefix: string): Place | { readonly name: string } | undefined {
  const dot = name.lastIndexOf('.');
  const layer = /^layers\.(\d+)\./.exec(name)?.[1];
  const module = name.slice(0, dot).replace(/^layers\.\d+\./, 'layers.{i}.');
  const place = Object.hasOwn(places, module) ? places[module] : undefined;
  if (place === undefined) return undefined;
  const { name: pattern, ...rest } = typeof place === 'string' ? { name: place } : place;
  return { name: pattern.replace('{prefix}', prefix).replace('{i}', layer ?? '') + name.slice(dot), ...rest };
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
