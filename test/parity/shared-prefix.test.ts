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

const model = { ...tinyModels['windows, soft caps, norms around each half']!, maxPositions: 400 };
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
  generate('once more', examples, { sampling: { ...sampling, seed: 2 } }),
  generate('asked for its prompt', [...examples, ...ids(3)], { promptLogprobs: true }),
  score('question', [...examples, ...ids(7)], [ids(1), ids(3), ids(2)]),
  score('another', [...examples, ...ids(4)], [ids(2), ids(2)]),
  score('begins as a prompt', examples, [ids(1), ids(1)]),
];

describe('rows that begin alike', () => {
  const cases: [string, Partial<EngineOptions>][] = [
    ['on the reference backend', { backend: 'reference' }],
    ['on the ONNX backend', { backend: 'onnx', threads: 2 }],
    ['two GPU batches of two', { backend: 'onnx', gpuBatchSize: 2, numGpuBatches: 2 }],
    ['one newcomer a sweep', { backend: 'onnx', policy: { maxRows: 1 } }],
    ['one at a time', { backend: 'reference', gpuBatchSize: 1, schedule: 'block', policy: { maxRows: 1 } }],
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
    expect((await engine.usage()).usedBytes.cpu).toBe(0);
  });

  it('compute all their rows where sharing is off, or nothing may be kept', async () => {
    await writeStore(tinyWeights(model), directory, { format: 'fp32' });
    const one = { model: directory, backend: 'reference', gpuBatchSize: 1 } as const;
    const [sharing, alone, unkept] = await Promise.all([
      promptRows({ ...one, policy: { maxRows: 1 } }),
      promptRows({ ...one, sharing: false }),
      promptRows({ ...one, policy: { maxRows: 1, prefixBytes: 0 } }),
    ]);
    expect(unkept).toBe(alone);
    expect(sharing).toBeLessThan(0.4 * alone);
  });

  it.each([254, 255, 256, 257])('are answered to the last bit as alone with %i tokens in common', async (common) => {
    const beginning = ids(common);
    const prompts = [generate('first', [...beginning, 41, 9]), generate('second', [...beginning, 42, 7, 8])];
    // One key head for each query head: a row's product is then one of a lone row.
    await writeStore(tinyWeights({ ...tinyModels.opt!, maxPositions: 400 }), directory, { format: 'fp32' });
    const engine = await openEngine({ model: directory, backend: 'onnx' });
    const alone = [];
    for (const request of prompts) alone.push(...(await engine.run([request])));
    expect(await engine.run(prompts)).toEqual(alone);
    await engine.close();
  });
});

/** Rows of prompts that all requests take together. */
async function promptRows(options: EngineOptions): Promise<number> {
  const engine = await openEngine(options);
  await engine.run(requests);
  const { promptRows } = await engine.usage();
  await engine.close();
  return promptRows;
}
