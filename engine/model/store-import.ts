/** From a model as it was published to an offload store of it. */
import { openModel } from './open.js';
import type { WriteStoreOptions } from './store-write.js';
import { writeStore } from './store-write.js';

export interface ImportOptions extends Omit<WriteStoreOptions, 'files' | 'tokenizer'> {
  /** Where sums of model files are remembered. */
  readonly cacheDir?: string;
}

/** @throws what `openModel` and `writeStore` throw. */
export async function importModel(path: string, directory: string, options: ImportOptions): Promise<void> {
  const { cacheDir, ...rest } = options;
  const { weights, tokenizer, chatTemplate, files } = await openModel(path, cacheDir === undefined ? {} : { cacheDir });
  try {
    await writeStore(weights, directory, {
      ...rest,
      files,
      ...(tokenizer && { tokenizer: { ...tokenizer, chatTemplate } }),
    });
  } finally {
    await weights.close();
  }
}
