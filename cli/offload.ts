/** Offload stores as commands make them: with progress, before the engine is opened. */
import { offloadStoreOf } from '../engine/offload-store.js';
import type { WeightBits } from '../engine/policy/policy.js';
import { cacheDirectory } from './bootstrap.js';
import { openBytesProgress, type ProgressView } from './progress.js';

export interface OffloadOptions {
  readonly offloadDir: string | undefined;
  readonly weightBits: WeightBits | undefined;
  readonly signal: AbortSignal;
}

/**
 * @param name of the model, for people
 * @returns the directory of its offload store
 */
export function prepareOffloadStore(name: string, path: string, options: OffloadOptions): Promise<string> {
  return withBytesProgress(`offload store of ${name}`, (view) => offloadStoreOf(path, storeOptions(options, view)));
}

export function storeOptions(options: OffloadOptions, view: ProgressView<[number, number]>) {
  const { offloadDir, weightBits, signal } = options;
  return { offloadDir, weightBits, signal, cacheDir: cacheDirectory(), onProgress: view.update };
}

export async function withBytesProgress<Result>(
  what: string,
  act: (view: ProgressView<[number, number]>) => Promise<Result>,
): Promise<Result> {
  const view = openBytesProgress(what);
  try {
    return await act(view);
  } finally {
    view.stop();
  }
}
