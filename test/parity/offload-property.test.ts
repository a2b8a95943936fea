import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import { EngineError } from '../../engine/errors.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { Policy } from '../../engine/policy/policy.js';
import type { Engine, EngineOptions, EngineRequest, EngineResult, EngineUsage } from '../../engine/requests.js';
import { damageFile, killAfter } from '../support/checkpoints.js';
import { tinyModels, tinyWeights } from '../support/tiny-models.js';

const scratch = mkdtempSync(join(tmpdir(), 'zigzag-offload-'));
const offloadDir = join(scratch, 'run');
const storeOf = (model: string) => join(scratch, model);
const models = Object.keys(tinyModels);
const backends = ['reference', 'onnx'] as const;

/**
 * What prompts have in common: the lengths of beginnings, each shared by fewer of them than the one before. An instruction
 * is everybody's, examples are those of every third.
 */
const beginnings = { apart: [], nested: [18, 45] } as const;
type Beginnings = keyof typeof beginnings;
const structures = Object.keys(beginnings) as Beginnings[];

/** How the cache is kept and read, which changes answers. */
const readings = [{}, { kvBits: 16 }, { kvBits: 8, sparseAttention: 0.5 }, { kvBits: 4 }] as const;
type Reading = (typeof readings)[number];

/** A model by itself: everything in memory, one request at a time. By backend, model and reading. */
const alone = new Map<string, Engine>();
/** What it answered. */
const answered = new Map<string, EngineResult>();

interface Case {
  readonly model: string;
  readonly structure: Beginnings;
  readonly reading: Reading;
}

async function answerAlone(backend: (typeof backends)[number], one: Case, pick: number): Promise<EngineResult> {
  const { model, structure, reading } = one;
  const name = JSON.stringify([backend, model, reading]);
  const key = `${name} ${structure} ${pick}`;
  const known = answered.get(key);
  if (known) return known;
  const engine =
    alone.get(name) ?? (await openEngine({ model: storeOf(model), backend, gpuBatchSize: 1, threads: 1, ...reading }));
  alone.set(name, engine);
  const [answer] = await engine.run([requestsOf(tinyModels[model]!, structure)[pick]!]);
  answered.set(key, answer!);
  return answer!;
}

beforeAll(async () => {
  for (const model of models) {
    await writeStore(tinyWeights(tinyModels[model]!), storeOf(model), { format: 'fp32' });
  }
});
afterAll(async () => {
  for (const engine of alone.values()) await engine.close();
  rmSync(scratch, { recursive: true });
});

/** Hundreds of engines are opened; half a minute where nothing else runs. */
const LONG_MILLISECONDS = 300_000;

/** Requests of every kind and many lengths: shorter than a block of the KV cache, whole blocks, and across them. */
const NUM_REQUESTS = 30;

function requestsOf({ vocabSize }: ModelConfig, structure: Beginnings): EngineRequest[] {
  const [everybodys = 0, thirds = everybodys] = beginnings[structure];
  return Array.from({ length: NUM_REQUESTS }, (_, i): EngineRequest => {
    const ids = (length: number, salt: number, whose = i) =>
      Array.from({ length }, (_, at) => (17 + 31 * whose + 7 * at * (at + salt) + salt) % vocabSize);
    const own = ids([1, 3, 9, 31, 32, 33, 50, 63, 64, 70][i % 10]!, 1);
    const prompt = [...ids(thirds, 1, i % 3), ...own.slice(thirds)].slice(0, own.length);
    prompt.splice(0, Math.min(everybodys, own.length), ...ids(Math.min(everybodys, own.length), 1, 0));
    if (i % 5 === 4) return { kind: 'score', id: `${i}`, context: prompt, options: [1, 2, 5].map((n) => ids(n, n)) };
    const sampling = { temperature: 0, topK: 0, topP: 1, seed: i };
    return {
      kind: 'generate',
      id: `${i}`,
      prompt,
      maxNewTokens: [0, 1, 2, 5, 13, 20][(i * 5) % 6]!,
      stop: [],
      sampling: {
        ...sampling,
        ...[{}, { temperature: 1 }, { temperature: 0.7, topK: 5 }, { temperature: 1.3, topP: 0.8 }][i % 4],
      },
      ignoreEos: i % 3 === 0,
      ...(i % 7 === 0 && { promptLogprobs: true, topLogprobs: 2 }),
    };
  });
}

const shares = fc
  .tuple(fc.nat(3), fc.nat(3), fc.nat(3))
  .map(([gpu, cpu, disk]) => (gpu + cpu + disk === 0 ? [1, 1, 1] : [gpu, cpu, disk]))
  .map(([gpu, cpu, disk]) => ({ gpu: gpu!, cpu: cpu!, disk: disk! }));

/** As shares of one whole; without a gpu the cpu has its share. */
function fractionsOn(device: 'cpu' | 'sim', { gpu, cpu, disk }: { gpu: number; cpu: number; disk: number }) {
  const total = gpu + cpu + disk;
  const [onGpu, onCpu] = device === 'sim' ? [gpu, cpu] : [0, gpu + cpu];
  return { gpu: onGpu / total, cpu: onCpu / total, disk: disk / total };
}

/** What may befall one of the files. */
const damages = fc.record({ file: fc.nat(), how: fc.constantFrom('cut', 'flip', 'lose'), at: fc.tuple(fc.nat()) });

const sizes = {
  model: fc.constantFrom(...models),
  structure: fc.constantFrom(...structures),
  reading: fc.constantFrom(...readings),
  device: fc.constantFrom('cpu', 'sim'),
  schedule: fc.constantFrom('continuous', 'block'),
  overlap: fc.boolean(),
  gpuBatchSize: fc.integer({ min: 1, max: 6 }),
  numGpuBatches: fc.integer({ min: 1, max: 3 }),
  /** Of the model's requests, in this order. */
  picks: fc.array(fc.nat(NUM_REQUESTS - 1), { minLength: 1, maxLength: 4 }),
  /** The run is given up after so many sweeps, and begun again. */
  cancelAfter: fc.option(fc.integer({ min: 1, max: 6 }), { freq: 1, nil: undefined }),
  /** The process is killed after so many sweeps, and another goes on with what is on its disk by then. */
  kill: fc.option(
    fc.record({ afterSweeps: fc.integer({ min: 1, max: 12 }), damage: fc.option(damages, { freq: 2 }) }),
    {
      freq: 2,
      nil: undefined,
    },
  ),
} as const;

const placed = fc.record({
  ...sizes,
  weights: shares,
  kv: shares,
  activations: shares,
  partBytes: fc.integer({ min: 1, max: 40_000 }),
  buffers: fc.integer({ min: 2, max: 6 }),
  maxRows: fc.integer({ min: 1, max: 150 }),
  paced: fc.boolean(),
});

function placedOptions(drawn: typeof placed extends fc.Arbitrary<infer Drawn> ? Drawn : never): Partial<EngineOptions> {
  const { device, weights, kv, activations, overlap, partBytes, buffers, maxRows, paced } = drawn;
  const policy: Partial<Policy> = {
    weights: fractionsOn(device, weights),
    kv: fractionsOn(device, kv),
    activations: fractionsOn(device, activations),
    ...{ overlap, partBytes, buffers, maxRows, paced },
  };
  return { policy };
}

const budgeted = fc.record({
  ...sizes,
  /** Of the tier that computes. The models take 30 to 180 kB; activations and aligned buffers take several times that. */
  budgetBytes: fc.integer({ min: 400, max: 3000 }).map((kilobytes) => kilobytes * 1000),
  spillBytes: fc.integer({ min: 0, max: 1000 }).map((kilobytes) => kilobytes * 1000),
  kv: shares,
});

function budgetedOptions(
  drawn: typeof budgeted extends fc.Arbitrary<infer Drawn> ? Drawn : never,
): Partial<EngineOptions> {
  const { device, budgetBytes, spillBytes, kv } = drawn;
  return {
    ...(device === 'sim'
      ? { deviceMemoryBytes: budgetBytes, hostMemoryBytes: spillBytes }
      : { hostMemoryBytes: budgetBytes }),
    policy: { kv: fractionsOn(device, kv) },
  };
}

type Kill = NonNullable<Sizes['kill']>;
type Sizes = { readonly [Key in keyof typeof sizes]: (typeof sizes)[Key] extends fc.Arbitrary<infer T> ? T : never };

async function open(backend: EngineOptions['backend'], drawn: Sizes, options: Partial<EngineOptions>): Promise<Engine> {
  const { model, reading, device, schedule, overlap, gpuBatchSize, numGpuBatches } = drawn;
  const given = { device, schedule, overlap, gpuBatchSize, numGpuBatches, ...reading, ...options };
  return openEngine({ model: storeOf(model), backend, threads: 1, offloadDir, ...given });
}

/** Runs what was drawn, and checks answers and accounts. */
async function check(engine: Engine, drawn: Sizes, capacity: Partial<EngineUsage['peakBytes']> = {}): Promise<void> {
  const all = requestsOf(tinyModels[drawn.model]!, drawn.structure);
  const requests = drawn.picks.map((pick) => all[pick]!);
  const before = (await engine.usage()).usedBytes;
  if (drawn.cancelAfter !== undefined) await cancel(engine, requests, drawn.cancelAfter);
  expect((await engine.usage()).usedBytes).toEqual(before);
  const results = await engine.run(requests);
  for (const [i, pick] of drawn.picks.entries()) {
    expectSame(results[i]!, await answerAlone(engine.info.backend as (typeof backends)[number], drawn, pick));
  }
  if (drawn.kill) expect(await killed(engine, requests, drawn.kill)).toEqual(results);
  const { usedBytes, peakBytes } = await engine.usage();
  expect(usedBytes).toEqual(before);
  for (const tier of ['gpu', 'cpu', 'disk'] as const) {
    expect(peakBytes[tier]).toBeLessThanOrEqual(capacity[tier] ?? Number.POSITIVE_INFINITY);
  }
  await engine.close();
  expect((await engine.usage()).usedBytes).toEqual({ gpu: 0, cpu: 0, disk: 0 });
}

async function cancel(engine: Engine, requests: readonly EngineRequest[], afterSweeps: number): Promise<void> {
  const abort = new AbortController();
  let sweeps = 0;
  const run = engine.run(requests, {
    signal: abort.signal,
    onProgress: () => {
      if (++sweeps === afterSweeps) abort.abort();
    },
  });
  // It may have been through before.
  await run.catch((error) => expect(error).toMatchObject({ code: 'CANCELLED' }));
}

/** Answers of a run that goes on where one was killed, whatever became of its files. */
async function killed(engine: Engine, requests: readonly EngineRequest[], { afterSweeps, damage }: Kill) {
  const kept = await killAfter(engine, requests, afterSweeps, scratch);
  try {
    if (damage) damageFile(kept, damage);
    return await engine.run(requests, { checkpoint: { directory: kept, fencingToken: 2, costShare: Infinity } });
  } finally {
    rmSync(kept, { recursive: true });
  }
}

/** Tokens are the same; sums over parts of the vocabulary may round differently. */
function expectSame(found: EngineResult, wanted: EngineResult): void {
  const exact = (result: EngineResult) =>
    result.kind === 'generate'
      ? {
          ...result,
          logprobs: [],
          promptLogprobs: [],
          topLogprobs: result.topLogprobs?.map((top) => top.map(([id]) => id)),
        }
      : { ...result, options: result.options.map(({ tokens, isGreedy }) => ({ tokens, isGreedy })) };
  const rounded = (result: EngineResult) =>
    result.kind === 'generate'
      ? [...result.logprobs, ...(result.promptLogprobs ?? []), ...(result.topLogprobs?.flat(2) ?? [])]
      : result.options.map(({ logprob }) => logprob);
  expect(exact(found)).toEqual(exact(wanted));
  rounded(found).forEach((value, i) => {
    expect(Math.abs((value ?? 0) - (rounded(wanted)[i] ?? 0))).toBeLessThan(1e-4);
  });
}

/** Answers of the reference are the same to the last bit wherever things lie, so any seed will do. */
describe('a model on any tiers, computed by the reference', () => {
  it(
    'answers as it does in memory, one request at a time, under any policy',
    async () => {
      const property = fc.asyncProperty(placed, async (drawn) => {
        await check(await open('reference', drawn, placedOptions(drawn)), drawn);
      });
      await fc.assert(property, { numRuns: 320 });
      expect(readdirSync(offloadDir)).toEqual([]);
    },
    LONG_MILLISECONDS,
  );

  it('answers the same within any budget, or says at once that it is too small', async () => {
    let opened = 0;
    const property = fc.asyncProperty(budgeted, async (drawn) => {
      const engine = await openWithin('reference', drawn);
      if (!engine) return;
      opened++;
      await check(engine, drawn, capacityOf(drawn));
    });
    await fc.assert(property, { numRuns: 140 });
    // About a third of the budgets drawn are large enough; this only guards against a test in which none is.
    expect(opened).toBeGreaterThan(20);
  });
});

/** A tie within the last bits of float32 could go either way, so the cases stay the same. */
describe('a model on any tiers, computed by ONNX Runtime', () => {
  it('answers as it does in memory, one request at a time, under any policy', async () => {
    const property = fc.asyncProperty(placed, async (drawn) => {
      await check(await open('onnx', drawn, placedOptions(drawn)), drawn);
    });
    await fc.assert(property, { numRuns: 40, seed: 1 });
  });

  it('answers as the reference does', async () => {
    for (const model of models) {
      const one = { model, structure: 'nested', reading: {} } as const;
      for (let pick = 0; pick < NUM_REQUESTS; pick++) {
        expectSame(await answerAlone('onnx', one, pick), await answerAlone('reference', one, pick));
      }
    }
  });
});

type Budgeted = Parameters<typeof budgetedOptions>[0];

function capacityOf({ device, budgetBytes, spillBytes }: Budgeted): Partial<EngineUsage['peakBytes']> {
  return device === 'sim' ? { gpu: budgetBytes, cpu: spillBytes } : { gpu: 0, cpu: budgetBytes };
}

async function openWithin(backend: EngineOptions['backend'], drawn: Budgeted): Promise<Engine | undefined> {
  try {
    return await open(backend, drawn, budgetedOptions(drawn));
  } catch (error) {
    if (error instanceof EngineError && error.code === 'OUT_OF_MEMORY') return undefined;
    throw error;
  }
}
