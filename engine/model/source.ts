/** A `WeightSource` over the tensors of a file: checked whole at the start, read row by row after. */
import { EngineError } from '../errors.js';
import type { ModelConfig } from './config.js';
import type { Place, Places } from './families/family.js';
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

export interface LocatedTensor {
  readonly tensor: StoredTensor;
  readonly rowOrder: RowOrder | undefined;
}

/**
 * @throws BAD_WEIGHTS if a tensor that the configuration needs is missing or of another shape, naming it, the needed
 * shape and the found one; UNSUPPORTED if its type cannot be read.
 */
export function locateTensors({ config, files, places, prefixes }: LocateInput): LocatedTensors {
  const place = (name: string, prefix: string) => placeOf(places, name, prefix) ?? { name };
  const prefix =
    prefixes.find((candidate) => files.tensors.has(place('embed.tokens.weight', candidate).name)) ?? prefixes[0] ?? '';
  const located = new Map<string, LocatedTensor>();
  for (const [name, needed] of tensorShapes(config)) {
    const found = place(name, prefix);
    const tensor = files.tensors.get(found.name);
    if (tensor === undefined || tensor.shape.join() !== needed.join())
      throw mismatch(files, name, found.name, needed, tensor);
    formatOf(tensor);
    located.set(name, { tensor, rowOrder: rowOrderOf(config, found) });
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
    shape: (name) => find(name).tensor.shape,
    storedType: (name) => find(name).tensor.type,
    read: async (name, rowStart = 0, rowEnd, into) => {
      const { tensor, rowOrder } = find(name);
      const rows = tensor.shape[0]!;
      const end = rowEnd ?? rows;
      if (!(rowStart >= 0 && rowStart <= end && end <= rows)) {
        throw new RangeError(`${name}: rows ${rowStart} to ${end} of ${rows}`);
      }
      const values = (end - rowStart) * rowValues(tensor);
      const target = into ?? new Float32Array(values);
      if (target.length < values)
        throw new RangeError(`${name}: needed room for ${values} values, found ${target.length}`);
      await readRows(tensor, rowStart, end, target, rowOrder);
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

function rowOrderOf(config: ModelConfig, place: Place | { readonly name: string }): RowOrder | undefined {
  if (!('fileRow' in place)) return undefined;
  return (row) => place.fileRow(config, row);
}
