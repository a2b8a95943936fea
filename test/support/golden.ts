/** Recorded outputs of reference models, as `test/fixtures/models/<name>/golden.json` holds them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GenerateRequest } from '../../engine/requests.js';

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
