/** The tokenizer and the chat template of a Hugging Face model directory. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isRecord, readJsonObject } from './json.js';
import type { Tokenizer } from './tokenizer.js';
import { openTokenizer } from './tokenizer.js';

export interface HfTokenizer {
  readonly tokenizer: Tokenizer | undefined;
  readonly chatTemplate: string | undefined;
}

/** Both undefined where the directory has no tokenizer.json. @throws BAD_WEIGHTS if a file is damaged. */
export async function openHfTokenizer(directory: string): Promise<HfTokenizer> {
  const source = join(directory, 'tokenizer.json');
  const json = await readJsonObject(source);
  if (json === undefined) return { tokenizer: undefined, chatTemplate: undefined };
  const settings = (await readJsonObject(join(directory, 'tokenizer_config.json'))) ?? {};
  const [bosToken, eosToken] = [tokenText(settings.bos_token), tokenText(settings.eos_token)];
  const template = await readFile(join(directory, 'chat_template.jinja'), 'utf8').catch(() => undefined);
  return {
    tokenizer: openTokenizer({ source, json, bosToken, eosToken }),
    chatTemplate: template ?? templateOf(settings.chat_template),
  };
}

/** A token is written as its text or as an object with it. */
function tokenText(token: unknown): string | undefined {
  const text = isRecord(token) ? token.content : token;
  return typeof text === 'string' ? text : undefined;
}

/** One template, or a list of named ones, of which `default` is for conversations. */
function templateOf(found: unknown): string | undefined {
  if (typeof found === 'string') return found;
  const named: unknown[] = Array.isArray(found) ? found : [];
  const chosen = named.find((entry) => isRecord(entry) && entry.name === 'default');
  return isRecord(chosen) && typeof chosen.template === 'string' ? chosen.template : undefined;
}
