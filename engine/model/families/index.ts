/** The families that can be run, and the way from a model's own description to one of them. */
import { EngineError } from '../../errors.js';
import type { ModelConfig } from '../config.js';
import { fieldsOf, isRecord } from '../json.js';
import type { Family, GgufDeclaration, GgufFacts, HfDeclaration } from './family.js';
import { unsupported } from './family.js';
import { gemma2, gemma3 } from './gemma.js';
import { gptNeox } from './gpt-neox.js';
import { llama } from './llama.js';
import { mistral, mixtral } from './mistral.js';
import { opt } from './opt.js';
import { phi3 } from './phi3.js';
import { qwen2, qwen2Moe, qwen3, qwen3Moe } from './qwen.js';

export const families: readonly Family[] = [
  llama,
  opt,
  qwen2,
  qwen3,
  mistral,
  gptNeox,
  phi3,
  gemma2,
  gemma3,
  mixtral,
  qwen2Moe,
  qwen3Moe,
];

export interface Described<Declaration> {
  readonly config: ModelConfig;
  readonly declaration: Declaration;
}

/**
 * The model that a Hugging Face config.json describes.
 *
 * @param generation generation_config.json, whose end tokens win, as in Hugging Face's own generation.
 * @param source for messages: the path of config.json.
 * @throws UNSUPPORTED for an unknown family, quantisation or setting; BAD_WEIGHTS for a missing or impossible field.
 */
export function parseHfConfig(
  config: Readonly<Record<string, unknown>>,
  generation: Readonly<Record<string, unknown>> = {},
  source = 'config.json',
): Described<HfDeclaration> {
  const fields = fieldsOf(source, (key) => config[key]);
  const modelType = fields.text('model_type');
  const declaration = families.map(({ hf }) => hf).find((hf) => hf?.modelTypes.includes(modelType));
  if (declaration === undefined) {
    throw unknownFamily(
      source,
      'model_type',
      modelType,
      families.flatMap(({ hf }) => hf?.modelTypes ?? []),
    );
  }
  const quantization = config.quantization_config;
  if (isRecord(quantization)) {
    throw unsupported(source, 'quantization_config', quantization.quant_method, [
      'none (F32, F16 or BF16 weights)',
      'GGUF files',
    ]);
  }
  const eosTokenIds = tokenIds(source, generation.eos_token_id ?? config.eos_token_id);
  return { config: { ...declaration.parse(fields), eosTokenIds }, declaration };
}

/** The model that a GGUF file's metadata describes. @throws as `parseHfConfig`. */
export function parseGgufConfig(
  metadata: ReadonlyMap<string, unknown>,
  file: GgufFacts,
  source: string,
): Described<GgufDeclaration> {
  const fields = fieldsOf(source, (key) => metadata.get(key));
  const architecture = fields.text('general.architecture');
  const declaration = families.map(({ gguf }) => gguf).find((gguf) => gguf?.architecture === architecture);
  if (declaration === undefined) {
    throw unknownFamily(
      source,
      'general.architecture',
      architecture,
      families.flatMap(({ gguf }) => gguf?.architecture ?? []),
    );
  }
  const ends = ['eos', 'eot', 'eom'].map((name) => fields.tokenId(`tokenizer.ggml.${name}_token_id`));
  const eosTokenIds = [...new Set(ends.filter((id) => id !== undefined))];
  return { config: { ...declaration.parse(fields, file), eosTokenIds }, declaration };
}

function tokenIds(source: string, found: unknown): readonly number[] {
  const ids = found == null ? [] : Array.isArray(found) ? found : [found];
  const bad = ids.find((id) => !Number.isSafeInteger(id) || id < 0);
  if (bad === undefined) return ids;
  throw new EngineError(
    'BAD_WEIGHTS',
    `${source}: eos_token_id: needed an id or a list of ids, found ${JSON.stringify(found)}`,
    {
      path: source,
      found,
    },
  );
}

function unknownFamily(source: string, key: string, found: string, supported: readonly string[]): EngineError {
  return new EngineError(
    'UNSUPPORTED',
    `${source}: ${key} is ${JSON.stringify(found)}; supported families are ${supported.join(', ')}`,
    {
      path: source,
      found,
      supported,
    },
  );
}
