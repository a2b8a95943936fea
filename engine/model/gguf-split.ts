/**
 * GGUF models of several files, as llama-gguf-split writes them: NAME-00001-of-00003.gguf and so on.
 *
 * The first has the metadata; every one has some of the tensors, and says which it is of how many.
 */
import { realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { EngineError } from '../errors.js';
import type { GgufFile } from './gguf.js';
import { openGguf } from './gguf.js';
import type { StoredTensor } from './tensors.js';

/** All files of one model. */
export interface GgufModel extends GgufFile {
  readonly paths: readonly string[];
}

/** Of these names, those that a model is opened by: the first of each split one. */
export function ggufModels(names: readonly string[]): string[] {
  return names.filter((name) => name.toLowerCase().endsWith('.gguf') && (splitName(name)?.number ?? 1) === 1);
}

/** The names of all files of the model that has this one among them. */
export function ggufParts(name: string): string[] {
  const split = splitName(name);
  if (split === undefined) return [name];
  return Array.from({ length: split.count }, (_, index) => partName(split, index + 1));
}

/**
 * @param path of a file that is whole by itself, or of any of the files of a split model
 * @throws as `openGguf`; BAD_WEIGHTS if a file of a split model is missing, is another's, or repeats a tensor.
 */
export async function openGgufModel(path: string): Promise<GgufModel> {
  // A link has the others beside what it links to.
  const actual = await realpath(path).catch(() => path);
  const split = splitName(basename(actual));
  const firstPath = split ? join(dirname(actual), partName(split, 1)) : path;
  const opened: GgufFile[] = [];
  const close = async () => void (await Promise.all(opened.map((file) => file.close())));
  try {
    const first = await openPart(firstPath, opened);
    const count = first.metadata.get('split.count') ?? 1;
    if (count === 1) return { ...first, paths: [firstPath], close };
    if (split?.count !== count) throw misnamed(firstPath, count);
    const paths = Array.from({ length: split.count }, (_, index) => join(dirname(actual), partName(split, index + 1)));
    for (const other of paths.slice(1)) await openPart(other, opened);
    return { ...first, tensors: joinTensors(opened, split.count), paths, close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface SplitName {
  readonly stem: string;
  readonly number: number;
  readonly count: number;
  readonly extension: string;
}

function splitName(name: string): SplitName | undefined {
  const [, stem, number, count, extension] = /^(.*)-(\d{5})-of-(\d{5})(\.gguf)$/i.exec(name) ?? [];
  return stem === undefined ? undefined : { stem, number: Number(number), count: Number(count), extension: extension! };
}

function partName({ stem, count, extension }: SplitName, number: number): string {
  const digits = (value: number) => String(value).padStart(5, '0');
  return `${stem}-${digits(number)}-of-${digits(count)}${extension}`;
}

async function openPart(path: string, opened: GgufFile[]): Promise<GgufFile> {
  try {
    const file = await openGguf(path);
    opened.push(file);
    return file;
  } catch (error) {
    if (opened.length === 0 || !(error instanceof EngineError) || error.code !== 'BAD_INPUT') throw error;
    throw new EngineError(
      'BAD_WEIGHTS',
      `${path}: this file of a split GGUF is missing or cannot be opened; fetch it`,
      { path },
      { cause: error },
    );
  }
}

function joinTensors(files: readonly GgufFile[], count: number): ReadonlyMap<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>();
  files.forEach(({ path, metadata, tensors: own }, index) => {
    const [number, of] = [metadata.get('split.no'), metadata.get('split.count')];
    if (number !== index || of !== count) {
      throw new EngineError(
        'BAD_WEIGHTS',
        `${path}: needed split.no ${index} of ${count}, found ${number} of ${of}; it belongs to another model, fetch it again`,
        { path, needed: index, found: number },
      );
    }
    for (const [name, tensor] of own) {
      const other = tensors.get(name);
      if (other !== undefined) {
        throw new EngineError('BAD_WEIGHTS', `${path}: tensor ${name} is in ${other.file.path} too`, {
          path,
          tensor: name,
          other: other.file.path,
        });
      }
      tensors.set(name, tensor);
    }
  });
  const needed = files[0]!.metadata.get('split.tensors.count') ?? tensors.size;
  if (needed === tensors.size) return tensors;
  const { path } = files[0]!;
  throw new EngineError(
    'BAD_WEIGHTS',
    `${path}: split.tensors.count: the ${count} files should have ${needed} tensors together, and have ${tensors.size}; fetch them again`,
    { path, needed, found: tensors.size },
  );
}

function misnamed(path: string, count: unknown): EngineError {
  return new EngineError(
    'BAD_WEIGHTS',
    `${path}: one of ${count} files of a split GGUF, and its name does not end in -00001-of-${String(count).padStart(5, '0')}.gguf; give all of them the names that they had`,
    { path, count },
  );
}
