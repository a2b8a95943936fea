/** What a benchmark asks: random ids or prompts of a file, and how long each completion is. The same at every call. */
import { existsSync, readFileSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { InputError } from '../datasets/errors.js';
import type { ModelConfig } from '../engine/model/config.js';
import { type Random, seededRandom } from '../engine/model/random.js';
import type { Tokenizer } from '../engine/model/tokenizer.js';
import type { GenerateRequest } from '../engine/requests.js';

export interface WorkOptions {
  /** One prompt a line; or JSON lines. */
  readonly prompts?: string;
  readonly promptLen?: number;
  /** Of each random prompt, the first so many tokens are the same. */
  readonly sharedPrefix?: number;
  readonly genLen: number;
  readonly mixedLengths?: LengthRange;
  /** Default: all of the file, else DEFAULT_SEQUENCES. */
  readonly numSequences?: number;
}

/** Completions of `least` to `most` tokens, all equally often. */
export interface LengthRange {
  readonly least: number;
  readonly most: number;
}

export const DEFAULT_PROMPT_LEN = 512;
export const DEFAULT_SEQUENCES = 64;

/** `1:128`, as commander reads it. */
export function lengthRange(text: string): LengthRange {
  const [, least, most] = /^(\d+):(\d+)$/.exec(text)?.map(Number) ?? [];
  if (least !== undefined && most !== undefined && 1 <= least && least <= most) return { least, most };
  throw new InvalidArgumentError('It must be the shortest and the longest completion in tokens, such as 1:128.');
}

/**
 * Requests whose completions end by length alone.
 *
 * @throws InputError if the file has no prompts, or one that cannot be encoded or does not fit into the model's context
 */
export async function makeRequests(
  { config, tokenizer }: { readonly config: ModelConfig; readonly tokenizer: Tokenizer | undefined },
  options: WorkOptions,
): Promise<GenerateRequest[]> {
  const { prompts, mixedLengths, genLen } = options;
  const [ids, lengths] = [seededRandom(0), seededRandom(1)];
  const given = prompts === undefined ? undefined : await readPrompts(prompts, tokenizer);
  const { least, most } = mixedLengths ?? { least: genLen, most: genLen };
  const promptLen = options.promptLen ?? DEFAULT_PROMPT_LEN;
  const randomIds = (count: number) => Array.from({ length: count }, () => below(config.vocabSize, ids));
  const shared = randomIds(Math.min(promptLen, options.sharedPrefix ?? 0));
  return Array.from({ length: options.numSequences ?? given?.length ?? DEFAULT_SEQUENCES }, (_, i) => {
    const { prompt, where } = given?.[i % given.length] ?? {
      prompt: [...shared, ...randomIds(promptLen - shared.length)],
      where: '--prompt-len',
    };
    requireFits(prompt.length, most, config, where);
    return requestOf(`${i}`, prompt, least + below(most - least + 1, lengths));
  });
}

/** The longest of them, prompt and completion together. */
export function longestOf(requests: readonly GenerateRequest[]): number {
  return requests.reduce((most, { prompt, maxNewTokens }) => Math.max(most, prompt.length + maxNewTokens), 0);
}

function below(limit: number, random: Random): number {
  return Math.floor(random.next() * limit);
}

function requestOf(id: string, prompt: readonly number[], maxNewTokens: number): GenerateRequest {
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  return { kind: 'generate', id, prompt, maxNewTokens, stop: [], sampling, ignoreEos: true };
}

interface EncodedPrompt {
  readonly prompt: readonly number[];
  readonly where: string;
}

async function readPrompts(path: string, tokenizer: Tokenizer | undefined): Promise<EncodedPrompt[]> {
  const file = resolve(path);
  if (!existsSync(file)) throw new InputError(`--prompts: ${file} does not exist`);
  const isJson = ['.jsonl', '.ndjson'].includes(extname(file).toLowerCase());
  const lines = readFileSync(file, 'utf8')
    .split(/\r?\n/)
    .map((text, i) => ({ text, where: `${file}:${i + 1}` }))
    .filter(({ text }) => text.trim() !== '');
  if (lines.length === 0) throw new InputError(`--prompts: ${file} has no prompts: write one a line`);
  const encoded: EncodedPrompt[] = [];
  for (const { text, where } of lines) {
    const prompt = isJson ? promptOf(text, where) : text;
    if (typeof prompt !== 'string') encoded.push({ prompt, where });
    else if (tokenizer) encoded.push({ prompt: await tokenizer.encode(prompt), where });
    else
      throw new InputError(`${where}: this model has no tokenizer: write JSON lines of token ids, {"prompt": [1, 2]}`);
  }
  return encoded;
}

/** A string, or an object with `prompt`: a string or token ids. */
function promptOf(line: string, where: string): string | number[] {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new InputError(`${where}: is not valid JSON`);
  }
  const prompt = typeof value === 'object' && value !== null && 'prompt' in value ? value.prompt : value;
  if (typeof prompt === 'string') return prompt;
  if (Array.isArray(prompt) && prompt.length > 0 && prompt.every((id) => Number.isInteger(id))) return prompt;
  throw new InputError(`${where}: needs a string, or an object with "prompt": a string, or a list of token ids`);
}

function requireFits(promptTokens: number, newTokens: number, config: ModelConfig, where: string): void {
  const tokens = promptTokens + newTokens;
  if (tokens <= config.maxPositions) return;
  throw new InputError(
    `${where}: a prompt of ${promptTokens} tokens and a completion of ${newTokens} take ${tokens}, and the model's ` +
      `context holds ${config.maxPositions}; shorten one of them`,
  );
}
