/** Recorded outputs of reference models, as `test/fixtures/models/<name>/golden.json` holds them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { GenerateRequest, GenerateResult } from '../../engine/requests.js';

export interface GoldenPrompt {
  readonly text?: string;
  readonly ids: readonly number[];
  readonly greedy: readonly number[];
  readonly logprobs: readonly number[];
  readonly top5?: readonly (readonly [number, number])[][];
  readonly promptLogprobs?: readonly (number | null)[];
  /** Gap of the two best logits at each step; paths may part where it is smaller than the arithmetic's noise. */
  readonly margins?: readonly number[];
  /** Index of the first EOS on the path. */
  readonly firstEos?: number | null;
}

export interface Golden {
  readonly prompts: readonly GoldenPrompt[];
  readonly eos?: {
    readonly eosTokenId: number;
    readonly ids: readonly number[];
    readonly greedy: readonly number[];
    readonly logprobs: readonly number[];
    readonly maxNewTokens: number;
    readonly promptIndex: number;
  };
}

/** Fixtures that hold a model with its `golden.json`. */
export const goldenModels = [
  'models/llama',
  'models/llama-tied-rope3',
  'models/opt',
  'models/opt-350m-style',
  'models/qwen2',
  'models/qwen3',
  'models/mistral',
  'models/gpt_neox',
  'models/gpt_neox-sequential',
  'models/phi3',
  'models/phi3-partial-rotary',
  'models/gemma2',
  'models/mixtral',
  'models/qwen2_moe',
  'models/qwen3_moe',
  'stories260k',
] as const;

/** Noise of the recordings is at most 4e-5; a wrong activation or an epsilon ten times too large shows at this. */
const TOLERANCE = 2e-4;

export const FIXTURES = join(process.cwd(), 'test', 'fixtures');

export function readJsonFixture<T>(...path: string[]): T {
  return JSON.parse(readFileSync(join(FIXTURES, ...path), 'utf8')) as T;
}

export function readGolden(...path: string[]): Golden {
  return readJsonFixture<Golden>(...path);
}

/** Greedy, as the goldens were recorded. */
export function goldenRequest(id: string, { ids, greedy }: GoldenPrompt): GenerateRequest {
  return {
    kind: 'generate',
    id,
    prompt: ids,
    maxNewTokens: greedy.length,
    stop: [],
    sampling: { temperature: 0, topK: 0, topP: 1, seed: 0 },
    ignoreEos: true,
    topLogprobs: 5,
    promptLogprobs: true,
  };
}

/** The recorded tokens, and log-probabilities within the tolerance of float32. */
export function expectRecorded(result: GenerateResult, prompt: GoldenPrompt): void {
  expect(result.tokens).toEqual(prompt.greedy);
  expectClose(result.logprobs, prompt.logprobs);
  if (prompt.promptLogprobs) {
    expect(result.promptLogprobs?.[0]).toBeNull();
    expectClose(result.promptLogprobs!.slice(1) as number[], prompt.promptLogprobs.slice(1) as number[]);
  }
  prompt.top5?.forEach((recorded, step) => {
    const found = result.topLogprobs![step]!;
    expectClose(
      found.map(([, logprob]) => logprob),
      recorded.map(([, logprob]) => logprob),
    );
  });
}

function expectClose(found: readonly number[], recorded: readonly number[]): void {
  expect(found.length).toBe(recorded.length);
  const worst = Math.max(0, ...found.map((value, i) => Math.abs(value - recorded[i]!)));
  expect(worst).toBeLessThan(TOLERANCE);
}
