/** What a benchmark runs: a model, as it is or as an offload store, or random weights of a named shape. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { ModelConfig } from '../engine/model/config.js';
import { openModel } from '../engine/model/open.js';
import { storeFiles } from '../engine/model/store.js';
import type { Tokenizer } from '../engine/model/tokenizer.js';
import { dummyStoreOf } from '../engine/offload-store.js';
import { cacheDirectory } from './bootstrap.js';
import { obtainModel } from './model-pull.js';
import { type OffloadOptions, prepareOffloadStore, storeOptions, withBytesProgress } from './offload.js';

export interface BenchModelOptions extends OffloadOptions {
  /** A name, path or hub repository; with `dummyWeights` a named shape. */
  readonly model: string;
  readonly dummyWeights: boolean;
  /** Whether it runs from an offload store. Random weights always do. */
  readonly offloads: boolean;
}

export interface BenchModel {
  /** What the engine opens. */
  readonly path: string;
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer | undefined;
  /** The largest file: what the disk is measured with. */
  readonly file: string;
  /** Form of the weights in the store, or format of the model. */
  readonly form: string;
}

/** Of all random weights: the same store serves every benchmark. */
const SEED = 0;

/** Fetches, converts or makes what is not there yet, and shows how far it is. */
export async function prepareBenchModel(options: BenchModelOptions): Promise<BenchModel> {
  const path = await (options.dummyWeights ? dummy(options) : real(options));
  const { weights, tokenizer, files, format } = await openModel(path, { cacheDir: cacheDirectory() });
  const { config } = weights;
  const largest = format === 'store' ? join(path, storeFiles.data) : largestOf(files);
  const form = `${format}, ${weights.storedType(weights.names.find((name) => weights.shape(name).length === 2)!)}`;
  await weights.close();
  return { path, config, tokenizer, file: largest, form };
}

function dummy(options: BenchModelOptions): Promise<string> {
  const what = `random weights of ${options.model}`;
  return withBytesProgress(what, (view) => dummyStoreOf(options.model, SEED, storeOptions(options, view)));
}

async function real(options: BenchModelOptions): Promise<string> {
  const { model, signal } = options;
  const path = await withBytesProgress(model, (view) =>
    obtainModel(model, { signal, report: view.note, onProgress: view.update }),
  );
  return options.offloads ? prepareOffloadStore(model, path, options) : path;
}

function largestOf(files: readonly string[]): string {
  const bytes = new Map(files.map((file) => [file, statSync(file).size]));
  return [...files].sort((a, b) => bytes.get(b)! - bytes.get(a)!)[0]!;
}
