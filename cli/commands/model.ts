/** `zigzag model pull|import|list|inspect|verify`: the models of this machine. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { InputError } from '../../datasets/errors.js';
import { importModel as importAsStore } from '../../engine/model/store-import.js';
import { verifyStore } from '../../engine/model/store-read.js';
import { storeFormat } from '../../engine/offload-store.js';
import type { WeightBits } from '../../engine/policy/policy.js';
import { cacheDirectory } from '../bootstrap.js';
import { interruptible } from '../interrupt.js';
import { inspectModel } from '../model-inspect.js';
import { pullModel } from '../model-pull.js';
import { defaultModelName, isStore, linkModel, listModels, requireModel, storeDirectory } from '../model-store.js';
import { withBytesProgress } from '../offload.js';
import { weightBits } from '../options.js';
import { note, print, printJson } from '../print.js';
import { openBytesProgress } from '../progress.js';
import { publishedNames } from '../published.js';
import { formatBytes, formatCount, formatTable } from '../terminal.js';

export function addModel(program: Command): void {
  const model = program.command('model').description('fetch, import, list, inspect and verify models');

  model
    .command('pull')
    .description('fetch a model: a published one by its name, any other as owner/name from the Hugging Face hub')
    .argument('<name>', `${publishedNames.join(', ')}, or owner/name`)
    .option('--file <file>', 'which GGUF file, where a repository has several')
    .option('--revision <revision>', 'branch, tag or commit of the repository (default: main)')
    .option('--json', 'end stdout with one JSON object')
    .action(pull);

  model
    .command('import')
    .description('give a model that lies on this machine a name: linked, or laid out anew as an offload store')
    .argument('<path>', 'GGUF file, or Hugging Face model directory')
    .option('--name <name>', 'name in the list (default: of the file or directory)')
    .option('--bits <bits>', 'make an offload store, with weights of 4, 8, 16 or 32 bits', weightBits)
    .option('--json', 'end stdout with one JSON object')
    .action(importModel);

  model
    .command('list')
    .description('list the models of this machine')
    .option('--json', 'end stdout with one JSON object')
    .action(list);

  model
    .command('inspect')
    .description('print shape, parameters, stored types, context and tokenizer of a model')
    .argument('<model>', 'name, GGUF file or directory')
    .option('--json', 'end stdout with one JSON object')
    .action(inspect);

  model
    .command('verify')
    .description('read an offload store and compare it with its sums')
    .argument('<model>', 'name or directory')
    .option('--json', 'end stdout with one JSON object')
    .action(verify);
}

interface PullFlags {
  readonly file?: string;
  readonly revision?: string;
  readonly json?: boolean;
}

async function pull(name: string, { json, ...options }: PullFlags): Promise<void> {
  const progress = openBytesProgress(name);
  const path = await interruptible(
    async (signal) => {
      try {
        return await pullModel(name, { ...options, signal, report: progress.note, onProgress: progress.update });
      } finally {
        progress.stop();
      }
    },
    () => progress.note('stopping'),
    'Interrupted. The same command goes on where it stopped.',
  );
  if (json) printJson({ name, path });
  else print(`${name} is ready: ${path}`);
}

interface ImportFlags {
  readonly name?: string;
  readonly bits?: WeightBits;
  readonly json?: boolean;
}

async function importModel(path: string, { name, bits, json }: ImportFlags): Promise<void> {
  if (bits !== undefined) {
    await importStore(path, bits, { name, json });
    return;
  }
  if (!existsSync(path)) throw new InputError(`${resolve(path)}: no such file or directory`);
  const facts = await inspectModel(path);
  const stored = linkModel(path, name ?? defaultModelName(path));
  if (!facts.tokenizer) note('note: this model has no tokenizer, so it takes ids only (generate --prompt-ids)');
  if (json) printJson(stored);
  else
    print(
      `${stored.name} is ready: ${facts.family}, ${formatCount(facts.parameters)} parameters, linked to ${stored.importedFrom}`,
    );
}

/** @param reference a path, or a name of the list */
async function importStore(
  reference: string,
  bits: WeightBits,
  { name, json }: { readonly name: string | undefined; readonly json: boolean | undefined },
): Promise<void> {
  const path = existsSync(reference) ? reference : requireModel(reference);
  const format = storeFormat(bits);
  const directory = storeDirectory(name ?? `${defaultModelName(path)}-${format}`);
  await interruptible(
    (signal) =>
      withBytesProgress(`${format} store`, ({ update: onProgress }) =>
        importAsStore(path, directory, { format, cacheDir: cacheDirectory(), signal, onProgress }),
      ),
    () => note('stopping'),
    'Interrupted. The same command begins anew.',
  );
  const stored = listModels().find((model) => model.path === directory)!;
  if (json) printJson(stored);
  else print(`${stored.name} is ready: ${format} weights, ${formatBytes(stored.bytes)} in ${directory}`);
}

async function verify(reference: string, { json }: { json?: boolean }): Promise<void> {
  const path = requireModel(reference);
  if (!isStore(path)) {
    throw new InputError(
      `${path} is no offload store; only these have sums. Make one with: zigzag model import --bits`,
    );
  }
  await withBytesProgress(reference, ({ update }) => verifyStore(path, update));
  if (json) printJson({ path, whole: true });
  else print(`${reference} is whole: every tensor has the sum that was written down when it was imported`);
}

function list({ json }: { json?: boolean }): void {
  const models = listModels();
  if (json) {
    printJson({ models });
    return;
  }
  if (models.length === 0) {
    print('No models yet. Fetch the default one with: zigzag model pull smollm2-135m-instruct');
    return;
  }
  const rows = models.map(({ name, format, bytes, path, importedFrom }) => [
    name,
    format,
    format === 'missing' ? '' : formatBytes(bytes),
    format === 'missing' ? `${path} (what it links to is gone: import it again)` : (importedFrom ?? path),
  ]);
  print(formatTable([['model', 'format', 'size', 'where'], ...rows], ''));
  const others = publishedNames.filter((name) => !models.some((model) => model.name === name));
  if (others.length > 0) note(`to fetch with zigzag model pull: ${others.join(', ')}`);
}

async function inspect(reference: string, { json }: { json?: boolean }): Promise<void> {
  const facts = await inspectModel(requireModel(reference));
  if (json) {
    printJson(facts);
    return;
  }
  const types = Object.entries(facts.storedTypes).map(([type, count]) => `${type} x ${count}`);
  print(
    formatTable(
      [
        ['path', facts.path],
        ['format', facts.format],
        ['family', facts.family],
        ['layers', `${facts.layers}`],
        ['hidden size', `${facts.hiddenSize}`],
        ['heads', `${facts.heads} of ${facts.headDim}, ${facts.kvHeads} for keys and values`],
        ['feed-forward', `${facts.ffnSize}`],
        ['vocabulary', formatCount(facts.vocabulary)],
        ['parameters', formatCount(facts.parameters)],
        ['tensors', types.join(', ')],
        ['size', formatBytes(facts.bytes)],
        ['context', `${formatCount(facts.context)} tokens`],
        ['tokenizer', facts.tokenizer ? 'yes' : 'none (ids only)'],
        ['chat template', facts.chatTemplate ? 'yes' : 'none'],
      ],
      '',
    ),
  );
}
