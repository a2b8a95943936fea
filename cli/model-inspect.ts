/** What a model is, read without its weights. */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ggufParts } from '../engine/model/gguf-split.js';
import { type OpenModel, openModel } from '../engine/model/open.js';
import { cacheDirectory } from './bootstrap.js';

export interface ModelFacts {
  readonly path: string;
  readonly format: OpenModel['format'];
  readonly family: string;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly ffnSize: number;
  readonly vocabulary: number;
  /** Of all tensors; what a tied head shares counts once. */
  readonly parameters: number;
  /** How many tensors are stored in each type. */
  readonly storedTypes: Readonly<Record<string, number>>;
  /** Longest sequence in tokens. */
  readonly context: number;
  readonly tokenizer: boolean;
  readonly chatTemplate: boolean;
  /** Of the files. */
  readonly bytes: number;
  /** Changes when a byte that can change an answer does. */
  readonly identity: string;
}

/** @throws EngineError where the model cannot be opened. */
export async function inspectModel(path: string): Promise<ModelFacts> {
  const { weights, tokenizer, chatTemplate, format } = await openModel(path, { cacheDir: cacheDirectory() });
  try {
    const { config, names, identity } = weights;
    const storedTypes: Record<string, number> = {};
    let parameters = 0;
    for (const name of names) {
      const type = weights.storedType(name);
      storedTypes[type] = (storedTypes[type] ?? 0) + 1;
      parameters += weights.shape(name).reduce((product, extent) => product * extent, 1);
    }
    return {
      path: resolve(path),
      format,
      family: config.family,
      layers: config.numLayers,
      hiddenSize: config.hiddenSize,
      heads: config.numHeads,
      kvHeads: config.numKvHeads,
      headDim: config.headDim,
      ffnSize: config.ffnSize,
      vocabulary: config.vocabSize,
      parameters,
      storedTypes,
      context: config.maxPositions,
      tokenizer: tokenizer !== undefined,
      chatTemplate: chatTemplate !== undefined,
      bytes: await bytesOf(path),
      identity,
    };
  } finally {
    await weights.close();
  }
}

async function bytesOf(path: string): Promise<number> {
  const isDirectory = (await stat(path)).isDirectory();
  const files = isDirectory
    ? (await readdir(path)).map((name) => join(path, name))
    : ggufParts(basename(path)).map((name) => join(dirname(path), name));
  const sizes = files.map(async (file) => (await stat(file)).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
