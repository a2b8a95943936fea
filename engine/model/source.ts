/** A `WeightSource` over the tensors of a file: checked whole at the start, read row by row after. */
import { EngineError } from '../errors.js';
import type { ModelConfig } from './config.js';
import type { Place, Places } from './families/family.js';
import { placeOf } from './families/family.js';
import { tensorShapes } from './shapes.js';
import type { RowOrder, StoredTensor, TensorFiles } from './tensors.js';
import { formatOf, readRows } from './tensors.js';
import type { WeightSource } from './weights.js';

export interface SourceInput {
  readonly config: ModelConfig;
  readonly identity: string;
  readonly files: TensorFiles;
  readonly places: Places;
  /** What files of this family put before their names, the likeliest first. */
  readonly prefixes: readonly string[];
}

interface Located {
  readonly tensor: StoredTensor;
  readonly rowOrder: RowOrder | undefined;
}

/**
 * @throws BAD_WEIGHTS if a tensor that the configuration needs is missing or of another shape, naming it, the needed
 * shape and the found one; UNSUPPORTED if its type cannot be read.
 */
export function openSource({ config, identity, files, places, prefixes }: SourceInput): WeightSource {
  const shapes = tensorShapes(config);
  const located = locate(config, files, places, prefixes, shapes);
  const find = (name: string): Located => {
    const found = located.get(name);
    if (found !== undefined) return found;
    throw new EngineError('BAD_WEIGHTS', `${files.path}: this model has no tensor ${name}`, {
      path: files.path,
      tensor: name,
    });
  };
  return {
    config,
    identity,
    names: [...shapes.keys()],
    shape: (name) => find(name).tensor.shape,
    storedType: (name) => find(name).tensor.type,
    read: async (name, rowStart = 0, rowEnd, into) => {
      const { tensor, rowOrder } = find(name);
      const rows = tensor.shape[0]!;
      const end = rowEnd ?? rows;
      if (!(rowStart >= 0 && rowStart <= end && end <= rows)) {
        throw new RangeError(`${name}: rows ${rowStart} to ${end} of ${rows}`);
      }
      const values = (end - rowStart) * (tensor.shape[1] ?? 1);
      const target = into ?? new Float32Array(values);
      if (target.length < values)
        throw new RangeError(`${name}: needed room for ${values} values, found ${target.length}`);
      await readRows(tensor, rowStart, end, target, rowOrder);
      return target;
    },
    close: () => files.close(),
  };
}

function locate(
  config: ModelConfig,
  files: TensorFiles,
  places: Places,
  prefixes: readonly string[],
  shapes: ReadonlyMap<string, readonly number[]>,
): ReadonlyMap<string, Located> {
  const fileName = (name: string, prefix: string) => placeOf(places, name, prefix)?.name ?? name;
  const prefix =
    prefixes.find((candidate) => files.tensors.has(fileName('embed.tokens.weight', candidate))) ?? prefixes[0] ?? '';
  const located = new Map<string, Located>();
  for (const [name, needed] of shapes) {
    const tensor = files.tensors.get(fileName(name, prefix));
    if (tensor === undefined || tensor.shape.join() !== needed.join()) {
      const found = tensor === undefined ? 'none of that name' : `(${tensor.shape.join(', ')})`;
      throw new EngineError(
        'BAD_WEIGHTS',
        `${files.path}: tensor ${fileName(name, prefix)} (${name}): needed (${needed.join(', ')}), found ${found}; the weights do not belong to this configuration`,
        { path: files.path, tensor: fileName(name, prefix), name, needed, found: tensor?.shape },
      );
    }
    formatOf(tensor);
    located.set(name, { tensor, rowOrder: rowOrderOf(config, placeOf(places, name, prefix)) });
  }
  return located;
}

function rowOrderOf(config: ModelConfig, place: Place | { readonly name: string } | undefined): RowOrder | undefined {
  if (place === undefined || !('fileRow' in place)) return undefined;
  return (row) => place.fileRow(config, row);
}
