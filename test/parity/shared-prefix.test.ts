import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import { seededRandom } from '../../engine/model/random.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { EngineOptions, EngineRequest, GenerateRequest, ScoreRequest } from '../../engine/requests.js';
import { tinyModels, tinyWeights } from '../support/tiny-models.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-prefix-'));
afterAll(() => rmSync(directory, { recursive: true }));

const random = seededRandom(3);
const ids = (count: number) => Array.from({ length: count }, () => 2 + Math.floor(random.next() * 40));

/** Longer than a tile of a prompt's attention. */
const instruction = ids(270);
const examples = [...instruction, ...ids(40)];
const sampling = { temperature: 0.7, topK: 0, topP: 1 };
const generate = (id: string, prompt: number[], more: Partial<GenerateRequest> = {}): GenerateRequest => {
  return { kind: 'generate', id, prompt, stop: [], sampling: { ...sampling, seed: 1 }, maxNewTokens: 6, ...more };
};
const score = (id: string, context: number[], options: number[][]): ScoreRequest => {
  return { kind: 'score', id, context, options };
};

const requests: EngineRequest[] = [
  generate('first', [...examples, ...ids(9)]),
  generate('other', ids(30)),
  generate('nested', [...examples, ...ids(5)]),
  generate('instruction only', [...instruction, ...ids(11)]),
  generate('the very same', examples),
  generate('once more', examples),
  generate('asked for its prompt', [...examples, ...ids(3)], { promptLogprobs: true }),
  score('question', [...examples, ...ids(7)], [ids(1), ids(3), ids(2)]),
  score('another', [...examples, ...ids(4)], [ids(2), ids(2)]),
  score('begins as a prompt', examples, [ids(1), ids(1)]),
];

describe('rows that begin alike', () => {
  const model = { ...tinyModels['windows, soft caps, norms around each half']!, maxPositions: 400 };
  const cases: [string, Partial<EngineOptions>][] = [
    ['on the reference backend', { backend: 'reference' }],
    ['on the ONNX backend', { backend: 'onnx', threads: 2 }],
    ['two GPU batches of two', { backend: 'onnx', gpuBatchSize: 2, numGpuBatches: 2 }],
    ['with the KV cache partly on disk', { backend: 'onnx', policy: { kv: { gpu: 0, cpu: 0.5, disk: 0.5 } } }],
  ];
  it.each(cases)('are answered to the last bit as each alone, with fewer rows: %s', async (_, options) => {
    await writeStore(tinyWeights(model), directory, { format: 'fp32' });
    const engine = await openEngine({ model: directory, backend: 'onnx', offloadDir: directory, ...options });
    const alone = [];
    for (const request of requests) alone.push(...(await engine.run([request])));
    const before = (await engine.usage()).promptRows;
    expect(await engine.run(requests)).toEqual(alone);
    const together = (await engine.usage()).promptRows - before;
    expect(together).toBeLessThan(0.6 * before);
    await engine.close();
  });
});
