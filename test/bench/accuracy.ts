/**
 * What forms of weights and of the KV cache cost in accuracy, on the default model, as the table of docs/performance.md.
 *
 *     node dist/test/bench/accuracy.js [FORM ...]
 *
 * Perplexity is of recipe lines (pipelines/data/ingredients.csv), 512 tokens at a time, which are prompts: the cache has no
 * part in it. Tokens alike are those of a completion of 64 before the first that float32 would not have chosen. Task
 * accuracies are those of pipelines/quickstart.yaml.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory, DEFAULT_MODEL } from '../../cli/bootstrap.js';
import { requireModel } from '../../cli/model-store.js';
import { openEngine } from '../../engine/engine.js';
import { openModel } from '../../engine/model/open.js';
import type { EngineOptions, EngineRequest, GenerateResult } from '../../engine/requests.js';
import { mainPath } from '../support/command.js';
import { temporaryDirectory } from '../support/temporal.js';
import { print } from './checks.js';

type Form = Pick<EngineOptions, 'weightBits' | 'computeBits' | 'kvBits' | 'sparseAttention'>;

const forms: Readonly<Record<string, Form>> = {
  'as in its file (Q4_1), computed in float32': {},
  'products in 8 bits': { computeBits: 8 },
  'int8 store': { weightBits: 8 },
  'int4 store': { weightBits: 4 },
  'KV cache of 16 bits': { kvBits: 16 },
  'KV cache of 8 bits': { kvBits: 8 },
  'KV cache of 4 bits': { kvBits: 4 },
  'half of the positions': { sparseAttention: 0.5 },
  'a fifth of the positions': { sparseAttention: 0.2 },
  'a tenth of the positions': { sparseAttention: 0.1 },
};

const WINDOW_TOKENS = 512;
const COMPLETIONS = 64;
const NEW_TOKENS = 64;
const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };

const directory = temporaryDirectory();
const model = requireModel(DEFAULT_MODEL.name);
const text = readFileSync('pipelines/data/ingredients.csv', 'utf8');
const wanted = process.argv.slice(2);
const plain = await measure({});
print('| Form | Perplexity | Tokens alike, of 64 | capitals, exact_match | capitals-choice, acc |');
print('| --- | ---: | ---: | ---: | ---: |');
try {
  for (const [name, form] of Object.entries(forms)) {
    if (wanted.length === 0 || wanted.includes(name)) print(await row(name, form));
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

async function row(name: string, form: Form): Promise<string> {
  try {
    const { perplexity, completions } = Object.keys(form).length === 0 ? plain : await measure(form);
    const alike = mean(completions.map((tokens, i) => commonLength(tokens, plain.completions[i]!)));
    return `| ${[name, perplexity, alike.toFixed(1), ...taskAccuracies(form)].join(' | ')} |`;
  } catch (error) {
    return `| ${name} | ${(error as Error).message} | | | |`;
  }
}

async function measure(form: Form): Promise<{ perplexity: string; completions: (readonly number[])[] }> {
  const opened = await openModel(model);
  const ids = await opened.tokenizer!.encode(text);
  await opened.weights.close();
  const engine = await openEngine({ model, backend: 'onnx', cacheDir: cacheDirectory(), ...form });
  const windows = Array.from({ length: Math.floor(ids.length / WINDOW_TOKENS) }, (_, i): EngineRequest => {
    const prompt = ids.slice(i * WINDOW_TOKENS, (i + 1) * WINDOW_TOKENS);
    return { kind: 'generate', id: `${i}`, prompt, maxNewTokens: 1, stop: [], sampling, promptLogprobs: true };
  });
  const prompts = Array.from({ length: COMPLETIONS }, (_, i): EngineRequest => {
    const prompt = ids.slice(100 * i, 100 * i + 100);
    return { kind: 'generate', id: `p${i}`, prompt, maxNewTokens: NEW_TOKENS, stop: [], sampling, ignoreEos: true };
  });
  const scored = (await engine.run(windows)) as GenerateResult[];
  const completed = (await engine.run(prompts)) as GenerateResult[];
  await engine.close();
  const logprobs = scored.flatMap(({ promptLogprobs }) => promptLogprobs!.filter((value) => value !== null));
  const [loss, error] = [-mean(logprobs), standardError(logprobs)];
  const perplexity = `${Math.exp(loss).toFixed(2)} ± ${(Math.exp(loss) * error).toFixed(2)}`;
  return { perplexity, completions: completed.map(({ tokens }) => tokens) };
}

function taskAccuracies(form: Form): string[] {
  const settings = Object.entries(form).flatMap(([key, value]) => ['--set', `engine.${key}=${value}`]);
  const words = ['run', 'pipelines/quickstart.yaml', '--run-dir', join(directory, 'run'), '--json', ...settings];
  rmSync(join(directory, 'run'), { recursive: true, force: true });
  const { stdout, stderr, status } = spawnSync(process.execPath, [mainPath, ...words], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  const { metrics } = JSON.parse(stdout.trim().split('\n').at(-1)!);
  const shown = ({ value, stderr: error }: { value: number; stderr: number }) =>
    `${value.toFixed(4)} ± ${error.toFixed(4)}`;
  return [shown(metrics.capitals.exact_match), shown(metrics['capitals-choice'].acc)];
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  const differs = a.findIndex((token, i) => token !== b[i]);
  return differs < 0 ? a.length : differs;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function standardError(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)) / values.length);
}
