/**
 * The models of this user: directories in the cache, and nothing beside them that could disagree.
 *
 * `models/NAME` holds a GGUF file, or is a Hugging Face directory or an offload store; NAME may be `owner/name`, as on the
 * hub. An imported model is a link to where it lies, or a store made of it. What is being fetched has a name that begins
 * with a dot.
 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { nearest } from '../datasets/suggest.js';
import { ggufModels, ggufParts } from '../engine/model/gguf-split.js';
import { storeFiles } from '../engine/model/store.js';
import { DEFAULT_MODEL, modelsDirectory } from './bootstrap.js';
import { publishedNames } from './published.js';

export interface StoredModel {
  readonly name: string;
  /** What the engine opens: a GGUF file or a directory; where it is a link, the link. */
  readonly path: string;
  readonly format: 'gguf' | 'safetensors' | 'store' | 'missing';
  /** Of all files of the model. */
  readonly bytes: number;
  /** Where the model really lies, if it was imported. */
  readonly importedFrom?: string;
}

/** All models of the store, by name. */
export function listModels(): StoredModel[] {
  return namesBelow(modelsDirectory())
    .map(describe)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Path of a model on this machine, or undefined where `reference` is a name that only a pull can provide. */
export function findModel(reference: string): string | undefined {
  const named = isModelName(reference) ? pathOf(join(modelsDirectory(), reference)) : undefined;
  if (named !== undefined) return named;
  const path = resolve(reference);
  if (!existsSync(path)) return undefined;
  const found = pathOf(path);
  if (found !== undefined) return found;
  throw new InputError(
    `${path} is not a model: it must be a GGUF file, or a directory with config.json and *.safetensors, with one GGUF file, or with an offload store`,
  );
}

/** As `findModel`. @throws InputError that says which models there are and how to get others. */
export function requireModel(reference: string): string {
  const path = findModel(reference);
  if (path !== undefined) return path;
  const names = listModels().map((model) => model.name);
  const close = nearest(reference, [...names, ...publishedNames]);
  const known = names.length > 0 ? `models here: ${names.join(', ')}` : 'no model is here yet';
  const pull = isModelName(reference) && (reference.includes('/') || publishedNames.includes(reference));
  throw new InputError(
    `there is no model or file ${JSON.stringify(reference)}${close && close !== reference ? ` (did you mean ${close}?)` : ''}; ${known}. ` +
      `Fetch one with: zigzag model pull ${pull ? reference : DEFAULT_MODEL.name}`,
  );
}

/** Links a model under a name. The caller has made sure that it can be opened. */
export function linkModel(path: string, name: string): StoredModel {
  requireModelName(name);
  const source = realpathSync(path);
  const entry = join(modelsDirectory(), name);
  const existing = lstatSync(entry, { throwIfNoEntry: false });
  if (existing && !isOurLink(entry)) {
    throw new InputError(`there is a model ${name} already, in ${entry}; choose another with --name`);
  }
  mkdirSync(dirname(entry), { recursive: true });
  const draft = join(dirname(entry), `.${basename(entry)}.${process.pid}`);
  rmSync(draft, { recursive: true, force: true });
  if (statSync(source).isDirectory()) {
    symlinkSync(source, draft, 'junction');
  } else {
    mkdirSync(draft);
    for (const file of ggufParts(basename(source))) symlinkSync(join(dirname(source), file), join(draft, file), 'file');
  }
  if (existing) rmSync(entry, { recursive: true });
  renameSync(draft, entry);
  return describe(name);
}

/**
 * Where the offload store of this name is made. A store that is there already may be made anew.
 *
 * @throws InputError if another model has the name
 */
export function storeDirectory(name: string): string {
  requireModelName(name);
  const directory = join(modelsDirectory(), name);
  if (isOurLink(directory) || (pathOf(directory) !== undefined && !isStore(directory))) {
    throw new InputError(`there is a model ${name} already, in ${directory}; choose another with --name`);
  }
  return directory;
}

/** Name that a model gets where none is given: of its file or directory. */
export function defaultModelName(path: string): string {
  return basename(resolve(path))
    .replace(/\.gguf$/i, '')
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/^[^a-z0-9]+/, '');
}

export function requireModelName(name: string): void {
  if (isModelName(name)) return;
  throw new InputError(
    `${JSON.stringify(name)} cannot be a model's name: letters, digits, dots, dashes and underscores, with at most one slash`,
  );
}

function isModelName(text: string): boolean {
  return /^[A-Za-z0-9][\w.-]*(\/[A-Za-z0-9][\w.-]*)?$/.test(text);
}

/** One level for models, two for those named `owner/name`. A directory without a model file is an owner's. */
function namesBelow(directory: string, owner?: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((entry) => !entry.startsWith('.'))
    .flatMap((entry) => {
      const path = join(directory, entry);
      const name = owner === undefined ? entry : `${owner}/${entry}`;
      const isModel = pathOf(path) !== undefined || isOurLink(path);
      return isModel ? [name] : owner === undefined && isDirectory(path) ? namesBelow(path, entry) : [];
    });
}

/** What the engine opens at `path`, or undefined where there is no model. */
function pathOf(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  if (!isDirectory(path) || isStore(path)) return path;
  if (existsSync(join(path, 'config.json')) && readdirSync(path).some((name) => name.endsWith('.safetensors')))
    return path;
  const files = ggufModels(readdirSync(path)).filter((name) => existsSync(join(path, name)));
  return files.length === 1 ? join(path, files[0]!) : undefined;
}

function describe(name: string): StoredModel {
  const entry = join(modelsDirectory(), name);
  const path = pathOf(entry);
  if (path === undefined) return { name, path: entry, format: 'missing', bytes: 0 };
  const isFile = !isDirectory(path);
  const files = isFile
    ? ggufParts(basename(path)).map((file) => join(dirname(path), file))
    : readdirSync(path).map((file) => join(path, file));
  const isLink = lstatSync(entry).isSymbolicLink() || lstatSync(path).isSymbolicLink();
  return {
    name,
    path,
    format: isFile ? 'gguf' : isStore(path) ? 'store' : 'safetensors',
    bytes: files.reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0),
    ...(isLink ? { importedFrom: realpathSync(path) } : {}),
  };
}

/** A link, or a directory that holds nothing but links: what `linkModel` makes, even where its target is gone. */
function isOurLink(path: string): boolean {
  const entry = lstatSync(path, { throwIfNoEntry: false });
  if (entry?.isSymbolicLink()) return true;
  if (!entry?.isDirectory()) return false;
  const files = readdirSync(path);
  return files.length > 0 && files.every((file) => lstatSync(join(path, file)).isSymbolicLink());
}

/** Its header is written last: without one an import did not end. */
export function isStore(path: string): boolean {
  return existsSync(join(path, storeFiles.header));
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
