/** A `WeightSource` over the tensors of a file: checked whole at the start, read row by row after. */
import { EngineError } from '../errors.js';
import type { ModelConfig } from './config.js';
import type { FoundPlace, Places } from './families/family.js';
import { placeOf } from './families/family.js';
import { tensorShapes } from './shapes.js';
import type { RowOrder, StoredTensor, TensorFiles } from './tensors.js';
import { formatOf, readRows, rowValues } from './tensors.js';
import type { WeightSource } from './weights.js';

export interface LocateInput {
  readonly config: ModelConfig;
  readonly files: TensorFiles;
  readonly places: Places;
  /** What files of this family put before their names, the likeliest first. */
  readonly prefixes: readonly string[];
}

export interface SourceInput {
  readonly config: ModelConfig;
  readonly identity: string;
  readonly files: TensorFiles;
  readonly tensors: LocatedTensors;
}

/** Every tensor that the model needs, by the engine's name, in the order in which they are needed. */
export type LocatedTensors = ReadonlyMap<string, LocatedTensor>;

/** A tensor of the model, in rows of one of the file. */
export interface LocatedTensor {
  /** Its rows are as wide as the model's. */
  readonly tensor: StoredTensor;
  /** Of the model's. */
  readonly shape: readonly number[];
  readonly rowOrder: RowOrder | undefined;
  /** Added to each value. */
  readonly plus: number;
}

/**
 * @throws BAD_WEIGHTS if a tensor that the configuration needs is missing or of another shape, naming it, the needed
 * shape and the found one; UNSUPPORTED if its type cannot be read.
 */
export function locateTensors({ config, files, places, prefixes }: LocateInput): LocatedTensors {
  const place = (name: string, prefix: string): FoundPlace => placeOf(places, name, prefix) ?? { name, expert: 0 };
  const prefix =
    prefixes.find((candidate) => files.tensors.has(place('embed.tokens.weight', candidate).name)) ?? prefixes[0] ?? '';
  const located = new Map<string, LocatedTensor>();
  for (const [name, shape] of tensorShapes(config)) {
    const found = place(name, prefix);
    const tensor = files.tensors.get(found.name);
    const needed = found.fileShape?.(config, shape) ?? shape;
    if (tensor === undefined || withoutOnes(tensor.shape) !== withoutOnes(needed))
      throw mismatch(files, name, found.name, needed, tensor);
    formatOf(tensor);
    const { fileRow, expert, plus = 0 } = found;
    const rowOrder = fileRow && ((row: number) => fileRow(config, row, expert));
    located.set(name, { tensor: asRows(tensor, shape), shape, rowOrder, plus });
  }
  return located;
}

/** Takes the files over: closing the source closes them. */
export function openSource({ config, identity, files, tensors }: SourceInput): WeightSource {
  const find = (name: string): LocatedTensor => {
    const found = tensors.get(name);
    if (found !== undefined) return found;
    throw new EngineError('BAD_WEIGHTS', `${files.path}: this model has no tensor ${name}`, {
      path: files.path,
      tensor: name,
    });
  };
  return {
    config,
    identity,
    names: [...tensors.keys()],
    shape: (name) => find(name).shape,
    storedType: (name) => find(name).tensor.type,
    read: async (name, rowStart = 0, rowEnd, into) => {
      const { tensor, shape, rowOrder, plus } = find(name);
      const rows = shape[0]!;
      const end = rowEnd ?? rows;
      if (!(rowStart >= 0 && rowStart <= end && end <= rows)) {
        throw new RangeError(`${name}: rows ${rowStart} to ${end} of ${rows}`);
      }
      const values = (end - rowStart) * rowValues(tensor);
      const target = into ?? new Float32Array(values);
      if (target.length < values)
        throw new RangeError(`${name}: needed room for ${values} values, found ${target.length}`);
      await readRows(tensor, rowStart, end, target, rowOrder);
      if (plus !== 0) for (let i = 0; i < values; i++) target[i]! += plus;
      return target;
    },
    close: () => files.close(),
  };
}

function mismatch(
  files: TensorFiles,
  name: string,
  fileName: string,
  needed: readonly number[],
  tensor: StoredTensor | undefined,
): EngineError {
  const found = tensor === undefined ? 'no tensor of that name' : `(${tensor.shape.join(', ')})`;
  return new EngineError(
    'BAD_WEIGHTS',
    `${files.path}: tensor ${fileName} (${name}): needed (${needed.join(', ')}), found ${found}; the weights do not belong to this configuration`,
    { path: files.path, tensor: fileName, name, needed, found: tensor?.shape },
  );
}

/** A matrix of one row may be written as a vector. */
function withoutOnes(shape: readonly number[]): string {
  return shape.slice(shape.findIndex((size) => size !== 1)).join();
}

/** The file's tensor in rows like those of `shape`, however many dimensions the file counts. */
function asRows(tensor: StoredTensor, shape: readonly number[]): StoredTensor {
  const width = shape.slice(1);
  const values = tensor.shape.reduce((product, size) => product * size, 1);
  return { ...tensor, shape: [values / width.reduce((product, size) => product * size, 1), ...width] };
}
