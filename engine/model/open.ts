/** Opens a model, whatever its format, and checks all of it that can be checked without reading the weights. */
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EngineError } from '../errors.js';
import { parseHfConfig } from './families/index.js';
import { identityOf } from './identity.js';
import { readJsonObject } from './json.js';
import { openSafetensorsDirectory } from './safetensors.js';
import { openSource } from './source.js';
import type { Tokenizer } from './tokenizer.js';
import type { WeightSource } from './weights.js';

export interface OpenModel {
  readonly weights: WeightSource;
  /** Undefined where the model comes without one: it then answers ids only. */
  readonly tokenizer: Tokenizer | undefined;
  /** Jinja source of the model's own way to write a conversation. */
  readonly chatTemplate: string | undefined;
  readonly format: 'gguf' | 'safetensors';
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
];

/**
 * @param path a GGUF file, a Hugging Face model directory, or a directory with one GGUF file.
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
  const ggufs = names.filter((name) => name.toLowerCase().endsWith('.gguf'));
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
      {
        path: directory,
      },
    );
  }
  const generation = await readJsonObject(join(directory, 'generation_config.json'));
  const { config: modelConfig, declaration } = parseHfConfig(config, generation, configPath);
  const files = await openSafetensorsDirectory(directory);
  try {
    const weightPaths = new Set([...files.tensors.values()].map(({ file }) => file.path));
    const settingPaths = settings.filter((name) => names.includes(name)).map((name) => join(directory, name));
    const source = { config: modelConfig, files, places: declaration.places, prefixes: declaration.prefixes };
    const weights = openSource({ ...source, identity: '' });
    const identity = await identityOf([...weightPaths, ...settingPaths], options.cacheDir);
    return { weights: { ...weights, identity }, tokenizer: undefined, chatTemplate: undefined, format: 'safetensors' };
  } catch (error) {
    await files.close();
    throw error;
  }
}

function openGgufModel(path: string, _options: OpenModelOptions): Promise<OpenModel> {
  throw new EngineError('UNSUPPORTED', `${path}: GGUF files cannot be read yet`, { path });
}
