/**
 * Writes an offload store, tensor by tensor.
 *
 * Memory is needed for a slice of one tensor. Everything is written under temporary names and takes its own at the
 * end, the header last: an import that was interrupted leaves nothing that looks like a store.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EngineError } from '../errors.js';
import { alignedBuffer, BLOCK_BYTES, viewOf } from '../memory/aligned-buffer.js';
import type { DirectFile } from '../memory/direct-file.js';
import { openDirect } from '../memory/direct-file.js';
import { requireDisk, writeError } from '../memory/direct-file-errors.js';
import type { StoreFormat, StorePlan } from './store.js';
import { packedTypes, planStore, storeFiles } from './store.js';
import type { SourceFile, StoreHeader, StoreTensor } from './store-header.js';
import { dataMagic, describeFiles, isSameFile, serialiseHeader } from './store-header.js';
import { lockName, lockStore } from './store-lock.js';
import { TensorWriter } from './store-tensor.js';
import type { WeightSource } from './weights.js';

export interface WriteStoreOptions {
  readonly format: StoreFormat;
  /** What the weights come from; a store of a source that changed since is refused. */
  readonly files?: readonly string[];
  readonly tokenizer?: StoreTokenizer;
  readonly signal?: AbortSignal;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface StoreTokenizer {
  /** What a tokenizer.json holds. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  readonly chatTemplate: string | undefined;
}

/**
 * Makes `directory` the store of a model; an older store there serves until the new one is whole.
 *
 * @throws BAD_INPUT if the directory holds other things, another import writes to it, or the source changes meanwhile;
 * BAD_WEIGHTS if a value does not fit the format; OUT_OF_MEMORY (tier disk) if the disk is too small, before anything is
 * written; CANCELLED if the signal says so.
 */
export async function writeStore(source: WeightSource, directory: string, options: WriteStoreOptions): Promise<void> {
  const target = resolve(directory);
  if (!Object.hasOwn(packedTypes, options.format)) {
    const known = Object.keys(packedTypes).join(', ');
    throw new EngineError('BAD_INPUT', `unknown store format ${JSON.stringify(options.format)}; choose among ${known}`);
  }
  await makeDirectory(target);
  const unlock = lockStore(target);
  try {
    await removeDrafts(target);
    await write(source, target, options);
  } finally {
    await removeDrafts(target);
    unlock();
  }
}

const DRAFT = '.importing';
const ownNames: readonly string[] = Object.values(storeFiles);

/** Slices are float32 values in memory twice at most: as read and as packed. */
async function write(source: WeightSource, directory: string, options: WriteStoreOptions): Promise<void> {
  const plan = planStore(source.config, options.format);
  const files = await describeFiles(options.files ?? []);
  await requireDisk(join(directory, storeFiles.data), plan.bytes);
  const file = openDirect(join(directory, storeFiles.data + DRAFT), 'create');
  let header: StoreHeader;
  try {
    await file.reserve(plan.bytes);
    header = await writeData(source, file, plan, options, files);
    await file.sync();
  } finally {
    await file.close();
  }
  await checkUnchanged(files);
  await writeDraft(directory, storeFiles.header, serialiseHeader(header));
  const settings = tokenizerFiles(options.tokenizer);
  for (const [name, text] of settings) await writeDraft(directory, name, text);
  await publish(
    directory,
    settings.map(([name]) => name),
  );
}

async function writeData(
  source: WeightSource,
  file: DirectFile,
  plan: StorePlan,
  { format, signal, onProgress }: WriteStoreOptions,
  files: readonly SourceFile[],
): Promise<StoreHeader> {
  const writer = new TensorWriter(source, file);
  const tensors: StoreTensor[] = [];
  let doneBytes = 0;
  for (const planned of plan.tensors) {
    const shared = tensors.find(({ layer, name }) => layer === planned.sharedWith && name === planned.name);
    if (shared !== undefined) {
      tensors.push({ ...planned, regions: shared.regions });
      continue;
    }
    const regions = await writer.write(planned, (bytes) => {
      if (signal?.aborted) throw new EngineError('CANCELLED', 'the import was cancelled; nothing of it is left');
      doneBytes += bytes;
      onProgress?.(doneBytes, plan.bytes);
    });
    tensors.push({ ...planned, regions });
  }
  const id = randomBytes(16).toString('hex');
  await writeFirstBlock(file, id);
  onProgress?.(plan.bytes, plan.bytes);
  const { config, identity } = source;
  return { id, format, config, lossless: writer.lossless, source: { identity, files }, bytes: plan.bytes, tensors };
}

async function writeFirstBlock(file: DirectFile, id: string): Promise<void> {
  const block = viewOf(alignedBuffer(BLOCK_BYTES, file));
  block.set(Buffer.from(dataMagic + id, 'latin1'));
  await file.write(block, 0);
}

async function checkUnchanged(files: readonly SourceFile[]): Promise<void> {
  const now = await describeFiles(files.map(({ path }) => path));
  const changed = files.find((file, i) => !isSameFile(file, now[i]!));
  if (changed === undefined) return;
  throw new EngineError('BAD_INPUT', `${changed.path}: the file changed while it was imported; import it again`, {
    path: changed.path,
  });
}

/** As in a Hugging Face directory, whatever the source was. */
function tokenizerFiles(tokenizer: StoreTokenizer | undefined): [name: string, text: string][] {
  if (tokenizer === undefined) return [];
  const { json, bosToken, eosToken, chatTemplate } = tokenizer;
  const settings = { bos_token: bosToken, eos_token: eosToken, chat_template: chatTemplate };
  return [
    [storeFiles.tokenizer, JSON.stringify(json)],
    [storeFiles.tokenizerConfig, JSON.stringify(settings)],
  ];
}

/** @throws BAD_INPUT if the directory cannot be made or is used for something else. */
async function makeDirectory(directory: string): Promise<void> {
  const names = await mkdir(directory, { recursive: true })
    .then(() => readdir(directory))
    .catch((cause: unknown) => {
      const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
      const message = `${directory}: cannot be made a store (${reason}); choose another directory`;
      throw new EngineError('BAD_INPUT', message, { path: directory, reason }, { cause });
    });
  const other = names.filter((name) => !ownNames.includes(name) && !name.startsWith(lockName) && !name.endsWith(DRAFT));
  // A tokenizer without a store's data is another's, and must not be overwritten.
  const strange = names.includes(storeFiles.data)
    ? other
    : names.filter((name) => other.includes(name) || isSetting(name));
  if (strange.length === 0) return;
  throw new EngineError(
    'BAD_INPUT',
    `${directory}: holds ${strange[0]}, which belongs to no offload store; choose a new or empty directory`,
    { path: directory, found: strange },
  );
}

function isSetting(name: string): boolean {
  return name === storeFiles.tokenizer || name === storeFiles.tokenizerConfig;
}

async function writeDraft(directory: string, name: string, text: string): Promise<void> {
  const path = join(directory, name + DRAFT);
  try {
    const handle = await open(path, 'w');
    await handle
      .writeFile(text)
      .then(() => handle.sync())
      .finally(() => handle.close());
  } catch (error) {
    throw await writeError(path, Buffer.byteLength(text), error);
  }
}

/** While names change there is no header: a reader finds the old store, none, or the new one. */
async function publish(directory: string, settings: readonly string[]): Promise<void> {
  await rm(join(directory, storeFiles.header), { force: true });
  for (const name of [storeFiles.tokenizer, storeFiles.tokenizerConfig])
    await rm(join(directory, name), { force: true });
  for (const name of [storeFiles.data, ...settings]) await rename(join(directory, name + DRAFT), join(directory, name));
  await syncDirectory(directory);
  await rename(join(directory, storeFiles.header + DRAFT), join(directory, storeFiles.header));
  await syncDirectory(directory);
}

async function removeDrafts(directory: string): Promise<void> {
  for (const name of ownNames) await rm(join(directory, name + DRAFT), { force: true });
}

/** Makes names durable. Windows cannot open a directory, and keeps names by itself. */
async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(directory, 'r');
  await handle.sync().finally(() => handle.close());
}
