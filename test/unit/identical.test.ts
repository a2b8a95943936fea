import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { EngineOptions, EngineRequest, GenerateRequest } from '../../engine/requests.js';
import { tinyModels, tinyWeights } from '../support/tiny-models.js';

const model = mkdtempSync(join(tmpdir(), 'zigzag-identical-'));
beforeAll(async () => {
  await writeStore(tinyWeights(tinyModels.llama!), model, { format: 'fp32' });
});
afterAll(() => rmSync(model, { recursive: true }));

const sampled = { temperature: 1, topK: 0, topP: 1, seed: 1 };
const generate = (id: string, more: Partial<GenerateRequest> = {}): EngineRequest => {
  return { kind: 'generate', id, prompt: [9, 8, 7], stop: [], sampling: sampled, maxNewTokens: 4, ...more };
};
const greedy = { ...sampled, temperature: 0 };
const score = (id: string, options: number[][]): EngineRequest => ({ kind: 'score', id, context: [5, 6], options });

async function run(requests: readonly EngineRequest[], options: Partial<EngineOptions> = {}) {
  const engine = await openEngine({ model, backend: 'reference', ...options });
  const progress: string[] = [];
  const results = await engine.run(requests, {
    onProgress: ({ finished, total }) => progress.push(`${finished}/${total}`),
  });
  const { promptRows } = await engine.usage();
  await engine.close();
  return { results, promptRows, progress };
}

describe('requests whose answers cannot differ', () => {
  it.each<[string, EngineRequest[], number]>([
    ['the same prompt, seed and limits', [generate('a'), generate('b')], 1],
    [
      'other seeds, where the most probable token is taken',
      [generate('a', { sampling: greedy }), generate('b', { sampling: { ...greedy, seed: 2 } })],
      1,
    ],
    ['the same options of the same context', [score('a', [[1], [2]]), score('b', [[1], [2]])], 1],
    ['another seed, where tokens are drawn', [generate('a'), generate('b', { sampling: { ...sampled, seed: 2 } })], 2],
    ['another limit', [generate('a'), generate('b', { maxNewTokens: 5 })], 2],
    ['more to be reported', [generate('a'), generate('b', { topLogprobs: 1 })], 2],
    ['other options', [score('a', [[1], [2]]), score('b', [[1], [3]])], 2],
  ])('%s: as many are computed as may differ', async (_, requests, computed) => {
    const alone = await run(requests, { sharing: false });
    const { results, promptRows, progress } = await run(requests);
    expect(results).toEqual(alone.results);
    expect(results.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(promptRows / alone.promptRows).toBe(computed / 2);
    expect(progress.at(-1)).toBe('2/2');
  });

  it('each get the error of one that cannot be computed', async () => {
    const { results } = await run([generate('a', { prompt: [999] }), generate('b', { prompt: [999] })]);
    expect(results).toMatchObject([
      { id: 'a', finishReason: 'error' },
      { id: 'b', finishReason: 'error' },
    ]);
  });
});
