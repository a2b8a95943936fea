/**
 * A model from the Hugging Face hub, whole or not at all.
 *
 * Files go to a directory with a hidden name beside the target, which takes the target's name when every file has the
 * hash that the hub lists. A pull that was killed goes on where it stopped.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { downloadFile, type ListFileEntry, listFiles } from '@huggingface/hub';
import { InputError } from '../datasets/errors.js';
import { ggufModels, ggufParts } from '../engine/model/gguf-split.js';

export interface HubPull {
  /** `owner/name`. */
  readonly repo: string;
  readonly revision?: string;
  /** Directory that the model becomes. */
  readonly target: string;
  /** The one to take of several GGUF files. */
  readonly file?: string | undefined;
  /** SHA-256 that a file must have whatever the hub says. */
  readonly pinned?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** The hub cannot be reached, or does not give the model. */
export class HubError extends Error {
  override readonly name = 'HubError';
}

/** A host that has sent no header by then is taken to be out of reach, as behind a firewall. */
const ANSWER_MILLISECONDS = 8_000;
/** What the engine reads of a repository; the rest (other formats, pictures) stays there. */
const WANTED =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|.*\.safetensors\.index)\.json$/;

/** @throws HubError; InputError where the repository holds no model that can be opened, or several. */
export async function pullFromHub(pull: HubPull): Promise<void> {
  const hub = endpoint(pull.signal);
  const files = chooseFiles(pull, await explained(pull.repo, () => listed(pull, hub)));
  const draft = join(dirname(pull.target), `.pull-${basename(pull.target)}`);
  mkdirSync(draft, { recursive: true });
  const totalBytes = files.reduce((sum, file) => sum + file.size, 0);
  let doneBytes = 0;
  for (const file of files) {
    const path = join(draft, file.path);
    await explained(pull.repo, () =>
      fetchFile({ pull, hub, file, path, onBytes: (bytes) => pull.onProgress?.(doneBytes + bytes, totalBytes) }),
    );
    doneBytes += file.size;
  }
  rmSync(pull.target, { recursive: true, force: true });
  renameSync(draft, pull.target);
}

interface Endpoint {
  readonly hubUrl?: string;
  readonly accessToken?: string;
  readonly fetch: typeof fetch;
}

/** HF_ENDPOINT and HF_TOKEN mean what they mean to Hugging Face's own tools. */
function endpoint(signal: AbortSignal | undefined): Endpoint {
  const { HF_ENDPOINT, HF_TOKEN } = process.env;
  return {
    ...(HF_ENDPOINT ? { hubUrl: HF_ENDPOINT.replace(/\/+$/, '') } : {}),
    ...(HF_TOKEN ? { accessToken: HF_TOKEN } : {}),
    fetch: async (input, init) => {
      const waiting = new AbortController();
      const give = () => waiting.abort(new HubError(`no answer within ${ANSWER_MILLISECONDS / 1000} s`));
      const timer = setTimeout(give, ANSWER_MILLISECONDS);
      const signals = [waiting.signal, ...(signal ? [signal] : []), ...(init?.signal ? [init.signal] : [])];
      return fetch(input, { ...init, signal: AbortSignal.any(signals) }).finally(() => clearTimeout(timer));
    },
  };
}

async function listed({ repo, revision }: HubPull, hub: Endpoint): Promise<ListFileEntry[]> {
  const files: ListFileEntry[] = [];
  for await (const file of listFiles({ repo, ...(revision ? { revision } : {}), ...hub })) {
    if (file.type === 'file') files.push(file);
  }
  return files;
}

function chooseFiles({ repo, file: chosen }: HubPull, files: readonly ListFileEntry[]): readonly ListFileEntry[] {
  const ggufs = files.filter((file) => file.path.endsWith('.gguf'));
  if (chosen !== undefined) {
    const parts = ggufParts(chosen);
    const found = ggufs.filter((file) => parts.includes(file.path));
    if (found.length === parts.length) return found;
    throw new InputError(`${repo} has no GGUF file ${chosen}; it has ${namesOf(ggufs) || 'none'}`);
  }
  const weights = files.filter((file) => file.path.endsWith('.safetensors'));
  const names = new Set(files.map((file) => file.path));
  if (weights.length > 0 && names.has('config.json')) {
    return files.filter((file) => WANTED.test(file.path) || file.path === 'chat_template.jinja').concat(weights);
  }
  const models = ggufModels(ggufs.map(({ path }) => path));
  if (models.length === 1) return ggufs;
  if (models.length > 1)
    throw new InputError(`${repo} has several GGUF files; choose one with --file: ${models.join(', ')}`);
  throw new InputError(
    `${repo} holds no model that can be opened: neither config.json with *.safetensors, nor a GGUF file; it holds ${namesOf(files.slice(0, 10)) || 'nothing'}`,
  );
}

function namesOf(files: readonly ListFileEntry[]): string {
  return files.map((file) => file.path).join(', ');
}

interface FileFetch {
  readonly pull: HubPull;
  readonly hub: Endpoint;
  readonly file: ListFileEntry;
  readonly path: string;
  readonly onBytes: (bytes: number) => void;
}

async function fetchFile({ pull, hub, file, path, onBytes }: FileFetch): Promise<void> {
  const { repo, revision, signal } = pull;
  let startBytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (startBytes > file.size) startBytes = 0;
  if (startBytes < file.size || startBytes === 0) {
    const blob = await downloadFile({ repo, path: file.path, ...(revision ? { revision } : {}), ...hub });
    if (!blob) throw new HubError(`${file.path} is listed but cannot be had`);
    let bytes = startBytes;
    const counted = new Transform({
      transform(chunk: Uint8Array, _encoding, done) {
        bytes += chunk.byteLength;
        onBytes(bytes);
        done(null, chunk);
      },
    });
    const rest = startBytes > 0 ? blob.slice(startBytes) : blob;
    const into = createWriteStream(path, { flags: startBytes > 0 ? 'a' : 'w' });
    const source = Readable.fromWeb(rest.stream() as Parameters<typeof Readable.fromWeb>[0]);
    await pipeline(source, counted, into, signal ? { signal } : {});
  }
  const problem = await mismatch(path, file, pull.pinned?.[file.path]);
  if (problem === undefined) return;
  rmSync(path, { force: true });
  throw new HubError(`${file.path} ${problem}; it was removed: run the same command again`);
}

/** What of a file is not as the hub lists it (or as pinned), or undefined. */
async function mismatch(path: string, file: ListFileEntry, pinned: string | undefined): Promise<string | undefined> {
  const { size } = statSync(path);
  if (size !== file.size) return `has ${size} B, and the hub lists ${file.size} B`;
  const sha256 = pinned ?? file.lfs?.oid;
  if (sha256 !== undefined) {
    const found = await digest(path, createHash('sha256'));
    return found === sha256 ? undefined : `has SHA-256 ${found}, and ${sha256} is expected`;
  }
  if (file.oid === undefined) return undefined;
  // Small files are git's own blobs: SHA-1 of a header and the content.
  const found = await digest(path, createHash('sha1').update(`blob ${size}\0`));
  return found === file.oid ? undefined : `has git hash ${found}, and the hub lists ${file.oid}`;
}

async function digest(path: string, hash: ReturnType<typeof createHash>): Promise<string> {
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** The innermost reason, since fetch itself says only "fetch failed". */
async function explained<T>(repo: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof Error) || error instanceof InputError || error.name === 'AbortError') throw error;
    const status = 'statusCode' in error ? ` (${String(error.statusCode)})` : '';
    const reason = error.cause instanceof Error ? error.cause.message : error.message;
    throw new HubError(`${repo} cannot be had from the hub: ${reason}${status}`, { cause: error });
  }
}
