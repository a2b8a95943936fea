/** Opens a model, whatever its format, and checks all of it that can be checked without reading the weights. */
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EngineError } from '../errors.js';
import { parseGgufConfig, parseHfConfig } from './families/index.js';
import { ggufModels, openGgufModel as openGgufFiles } from './gguf-split.js';
import { openGgufTokenizer } from './gguf-tokenizer.js';
import { openHfTokenizer } from './hf-tokenizer.js';
import { identityOf } from './identity.js';
import { readJsonObject } from './json.js';
import { openSafetensorsDirectory } from './safetensors.js';
import { locateTensors, openSource } from './source.js';
import { storeFiles } from './store.js';
import { openStoreSource } from './store-source.js';
import type { TensorFiles } from './tensors.js';
import { readRows } from './tensors.js';
import type { Tokenizer } from './tokenizer.js';
import type { WeightSource } from './weights.js';

export interface OpenModel {
  readonly weights: WeightSource;
  /** Undefined where the model comes without one: it then answers ids only. */
  readonly tokenizer: Tokenizer | undefined;
  /** Jinja source of the model's own way to write a conversation. */
  readonly chatTemplate: string | undefined;
  readonly format: 'gguf' | 'safetensors' | 'store';
  /** All that can change an answer, and so what the identity is made from. Empty for a store, which has it written in it. */
  readonly files: readonly string[];
}

export interface OpenModelOptions {
  /** Where sums of model files are remembered; without it they are computed each time. */
  readonly cacheDir?: string;
}

/** Files beside the weights that can change an answer. */
const settings = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'model.safetensors.index.json',
];

/**
 * @param path a GGUF file (of a split one, any), a Hugging Face model directory, a directory with one GGUF model, or an
 * offload store.
 * @throws BAD_INPUT if there is nothing there; BAD_WEIGHTS if a file is damaged or contradicts another; UNSUPPORTED for
 * a family, format or type that cannot be run.
 */
export async function openModel(path: string, options: OpenModelOptions = {}): Promise<OpenModel> {
  const absolute = resolve(path);
  const status = await stat(absolute).catch(() => undefined);
  if (status === undefined) {
    throw new EngineError(
      'BAD_INPUT',
      `${absolute}: no such model; needed a GGUF file or a Hugging Face model directory`,
      { path: absolute },
    );
  }
  if (!status.isDirectory()) return openGgufModel(absolute, options);
  const names = await readdir(absolute);
  if (names.includes(storeFiles.header)) return openStoreModel(absolute, options);
  const ggufs = ggufModels(names);
  if (names.includes('config.json') && names.some((name) => name.endsWith('.safetensors')))
    return openHfModel(absolute, names, options);
  if (ggufs.length === 1) return openGgufModel(join(absolute, ggufs[0]!), options);
  if (ggufs.length > 1) {
    throw new EngineError('BAD_INPUT', `${absolute}: ${ggufs.length} GGUF files; name one of ${ggufs.join(', ')}`, {
      path: absolute,
      ggufs,
    });
  }
  return openHfModel(absolute, names, options);
}

async function openHfModel(directory: string, names: readonly string[], options: OpenModelOptions): Promise<OpenModel> {
  const configPath = join(directory, 'config.json');
  const config = await readJsonObject(configPath);
  if (config === undefined) {
    throw new EngineError(
      'BAD_INPUT',
      `${directory}: no config.json and no GGUF file; needed a Hugging Face model directory or a GGUF file`,
      { path: directory },
    );
  }
  const generation = await readJsonObject(join(directory, 'generation_config.json'));
  const { config: modelConfig, declaration } = parseHfConfig(config, generation, configPath);
  const { places, prefixes } = declaration;
  return closingOnError(await openSafetensorsDirectory(directory), async (files) => {
    const tensors = locateTensors({ config: modelConfig, files, places, prefixes });
    const { tokenizer, chatTemplate } = await openHfTokenizer(directory);
    const weightPaths = new Set([...files.tensors.values()].map(({ file }) => file.path));
    const settingPaths = settings.filter((name) => names.includes(name)).map((name) => join(directory, name));
    const paths = [...weightPaths, ...settingPaths];
    const identity = await identityOf(paths, options.cacheDir);
    const weights = openSource({ config: modelConfig, identity, files, tensors });
    return { weights, tokenizer, chatTemplate, format: 'safetensors', files: paths };
  });
}

async function openGgufModel(path: string, options: OpenModelOptions): Promise<OpenModel> {
  return closingOnError(await openGgufFiles(path), async (files) => {
    const facts = {
      shape: (name: string) => files.tensors.get(name)?.shape,
      ropeFactors: await readRopeFactors(files),
    };
    const { config, declaration } = parseGgufConfig(files.metadata, facts, path);
    const tensors = locateTensors({ config, files, places: declaration.places, prefixes: [''] });
    const tokenizer = openGgufTokenizer(path, files.metadata);
    const template = files.metadata.get('tokenizer.chat_template');
    const chatTemplate = typeof template === 'string' ? template : undefined;
    const identity = await identityOf(files.paths, options.cacheDir);
    const weights = openSource({ config, identity, files, tensors });
    return { weights, tokenizer, chatTemplate, format: 'gguf', files: files.paths };
  });
}

async function openStoreModel(directory: string, options: OpenModelOptions): Promise<OpenModel> {
  const { tokenizer, chatTemplate } = await openHfTokenizer(directory);
  const weights = await openStoreSource(directory, options);
  return { weights, tokenizer, chatTemplate, format: 'store', files: [] };
}

async function readRopeFactors(files: TensorFiles): Promise<readonly number[] | undefined> {
  const tensor = files.tensors.get('rope_freqs.weight');
  if (tensor === undefined) return undefined;
  const factors = new Float32Array(tensor.shape[0]!);
  await readRows(tensor, 0, factors.length, factors);
  return [...factors];
}

async function closingOnError<Files extends TensorFiles>(
  files: Files,
  use: (files: Files) => Promise<OpenModel>,
): Promise<OpenModel> {
  try {
    return await use(files);
  } catch (error) {
    await files.close();
    throw error;
  }
}
