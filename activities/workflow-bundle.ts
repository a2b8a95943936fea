/**
 * The workflows as one script for Temporal's sandbox: built once, kept in the cache.
 *
 * Building takes seconds; the name of the file is a sum over all that the script is made of.
 */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { writeFileAtomic } from '../datasets/files.js';

const workflowsDirectory = fileURLToPath(new URL('../workflows/', import.meta.url));

/** @returns the path of the script. */
export async function workflowBundle(cacheDir: string): Promise<string> {
  const path = join(cacheDir, 'workflows', `${sumOfSources()}.js`);
  if (existsSync(path)) return path;
  const { code } = await bundleWorkflowCode({
    workflowsPath: join(workflowsDirectory, 'index.js'),
    logger: new DefaultLogger('ERROR'),
  });
  writeFileAtomic(path, code);
  return path;
}

function sumOfSources(): string {
  const hash = createHash('sha256');
  const require = createRequire(import.meta.url);
  // The bundle contains the workflow library, and must be made by the version of the worker that runs it.
  for (const name of ['@temporalio/worker', '@temporalio/workflow']) {
    hash.update((require(`${name}/package.json`) as { version: string }).version);
  }
  for (const name of readdirSync(workflowsDirectory).sort()) {
    if (name.endsWith('.js')) hash.update(name).update(readFileSync(join(workflowsDirectory, name)));
  }
  return hash.digest('hex').slice(0, 16);
}
