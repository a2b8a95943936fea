import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { normalise, product } from '../../engine/backends/formulas.js';
import { openReference } from '../../engine/backends/reference.js';
import { openOffloaded } from '../../engine/memory/offloaded.js';
import { openTiers } from '../../engine/memory/tier.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { dummyWeights } from '../../engine/model/dummy.js';
import { expertOf } from '../../engine/model/layers.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { seededRandom } from '../../engine/model/random.js';
import { openStore } from '../../engine/model/store-read.js';
import { writeStore } from '../../engine/model/store-write.js';
import { addShares, routeRows, scaleBySigmoid, takeRows } from '../../engine/schedule/experts.js';
import { streamedCompute } from '../../engine/schedule/streamed.js';

/** Log of 1, 2, 3, 4, in another order: the softmax is 0.1, 0.2, 0.3, 0.4. */
const logits = Float32Array.from([2, 4, 1, 3], Math.log);
const experts = { count: 4, perToken: 2, renormalised: false };

describe('routing', () => {
  it.each([
    ['of all experts where shares are not renormalised', false, [0.4, 0.3]],
    ['of those that a row uses where they are', true, [4 / 7, 3 / 7]],
  ])('gives the most probable experts their shares %s', (_, renormalised, shares) => {
    const routed = routeRows(logits, { ...experts, renormalised });
    expect(routed.map(({ expert }) => expert)).toEqual([1, 3]);
    expect(routed.map((own) => own.shares[0])).toEqual(shares.map((share) => expect.closeTo(share, 6)));
  });

  it('puts rows together by expert, and takes the lower of equal ones', () => {
    const routed = routeRows(Float32Array.of(5, 5, 5, 0, 0, 9, 0, 8), experts);
    expect(routed.map(({ expert, rows }) => [expert, [...rows]])).toEqual([
      [0, [0]],
      [1, [0, 1]],
      [3, [1]],
    ]);
  });

  it('takes rows out and adds them back, each with its share', () => {
    const rows = Int32Array.of(0, 2);
    expect([...takeRows(Float32Array.of(1, 2, 3, 4, 5, 6), 2, rows)]).toEqual([1, 2, 5, 6]);
    const sum = new Float32Array(6).fill(1);
    addShares(sum, 2, { expert: 0, rows, shares: Float32Array.of(0.5, 2) }, Float32Array.of(2, 4, 10, 20));
    expect([...sum]).toEqual([2, 3, 1, 1, 21, 41]);
    const values = Float32Array.of(4, 8, 4, 8);
    scaleBySigmoid(values, 2, Float32Array.of(0, Math.log(3)));
    expect([...values]).toEqual([2, 4, 3, 6]);
  });
});

/** Like Qwen3-30B-A3B, cut in every direction. */
const config: ModelConfig = {
  ...namedShape('qwen3-30b-a3b'),
  numLayers: 1,
  hiddenSize: 1024,
  embeddingSize: 1024,
  numHeads: 4,
  numKvHeads: 1,
  ffnSize: 256,
  vocabSize: 256,
  maxPositions: 64,
  experts: { count: 16, perToken: 2, renormalised: true },
};
const ROWS = 5;
const weights = dummyWeights(config, 3);
const directory = mkdtempSync(join(tmpdir(), 'zigzag-experts-'));
beforeAll(async () => {
  for (const format of ['fp16', 'int4'] as const) await writeStore(weights, join(directory, format), { format });
});
afterAll(() => rmSync(directory, { recursive: true }));

const random = seededRandom(1);
const values = (count: number) => Float32Array.from({ length: count }, () => random.next() - 0.5);
const hidden = values(ROWS * config.hiddenSize);
const attended = values(ROWS * config.numHeads * config.headDim);

/** The experts of these rows, by the formulas alone. */
async function chosenExperts(): Promise<Set<number>> {
  const tensor = (name: string) => weights.read(`layers.0.${name}.weight`);
  const output = product(attended, await tensor('output'), config.numHeads * config.headDim);
  const mixed = hidden.map((value, i) => value + output[i]!);
  const input = normalise(config, mixed, await tensor('ffnNorm'));
  const scores = product(input, await tensor('router'), config.hiddenSize);
  const { count, perToken } = config.experts!;
  const chosen = Array.from({ length: ROWS }, (_, row) => {
    const own = [...scores.subarray(row * count, (row + 1) * count)];
    return [...own.keys()].sort((a, b) => own[b]! - own[a]!).slice(0, perToken);
  });
  return new Set(chosen.flat());
}

describe.each(['fp16', 'int4'] as const)('experts of a store in %s', (format) => {
  it.each([0, 0.5])('are read only where some row uses them, %f of each being in memory', async (inMemory) => {
    const store = await openStore(join(directory, format));
    const ofExperts = store.tensors.filter(({ name }) => expertOf(name) !== undefined);
    const regions = ofExperts.flatMap(({ regions: { data, scale, min } }) => [data, scale, min].filter((one) => !!one));
    let readBytes = 0;
    const read = store.file.read.bind(store.file);
    const fractions = { gpu: 0, cpu: inMemory, disk: 1 - inMemory };
    const tiers = openTiers({ gpu: 0, cpu: Number.POSITIVE_INFINITY, disk: Number.POSITIVE_INFINITY });
    const options = { fractions, computeTier: 'cpu', partBytes: 2 ** 20, buffers: 4, overlap: true } as const;
    const model = await openOffloaded(store, tiers, options);
    store.file.read = (into, offset, what) => {
      const isExperts = regions.some((region) => offset >= region.offset && offset < region.offset + region.bytes);
      if (isExperts) readBytes += into.length;
      return read(into, offset, what);
    };
    const backend = await openReference(config, { threads: 1 });
    let expertRows = 0;
    const feed: typeof backend.feed = (input, parts, into) => {
      expertRows += (input.length / config.hiddenSize) * (parts.up.shape[0]! / config.ffnSize);
      return backend.feed(input, parts, into);
    };
    const compute = streamedCompute({ ...backend, feed }, config, model.resident, model);
    await compute.embed(new Int32Array(ROWS), new Int32Array(ROWS));
    await compute.project(0, hidden, new Int32Array(ROWS));
    await compute.finish(0, hidden, attended);

    const chosen = await chosenExperts();
    expect(chosen.size).toBeLessThan(config.experts!.count);
    const needed = ofExperts.filter(({ name }) => chosen.has(expertOf(name)!));
    const neededBytes =
      (1 - inMemory) *
      needed.reduce((sum, { regions: { data, scale, min } }) => {
        return sum + data.bytes + (scale?.bytes ?? 0) + (min?.bytes ?? 0);
      }, 0);
    expect(readBytes / neededBytes).toBeGreaterThanOrEqual(0.99);
    expect(readBytes / neededBytes).toBeLessThanOrEqual(1.05);
    expect(expertRows).toBeCloseTo(ROWS * config.experts!.perToken, 6);
    await model.close();
    await store.close();
  });
});
