import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Checksum, checksum, EMPTY_CHECKSUM } from '../../engine/checkpoint/checksum.js';
import { readsFaster } from '../../engine/checkpoint/kv-load.js';
import { openPace } from '../../engine/checkpoint/pace.js';
import type { CheckpointOptions, CheckpointStatus } from '../../engine/checkpoint.js';
import { openEngine } from '../../engine/engine.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { Engine, EngineRequest, EngineResult, RunOptions } from '../../engine/requests.js';
import { damageFile, killAfter } from '../support/checkpoints.js';
import { tinyModels, tinyWeights } from '../support/tiny-models.js';

const scratch = mkdtempSync(join(tmpdir(), 'zigzag-checkpoint-'));
const model = join(scratch, 'model');
const GPU_BATCH_SIZE = 4;

/** Ten sampled sequences of 30 tokens, of which four are computed together, and two questions. */
const requests: readonly EngineRequest[] = [
  ...Array.from({ length: 10 }, (_, i): EngineRequest => {
    const prompt = Array.from({ length: 5 + 7 * i }, (_, at) => (3 + 11 * i + 5 * at) % 140);
    const sampling = { temperature: 0.9, topK: 20, topP: 1, seed: i };
    return { kind: 'generate', id: `${i}`, prompt, maxNewTokens: 30, stop: [], sampling, ignoreEos: true };
  }),
  { kind: 'score', id: 'a', context: [4, 5, 6], options: [[7], [8, 9]] },
  { kind: 'score', id: 'b', context: [14, 15], options: [[17], [18, 19]] },
];

let engine: Engine;
let undisturbed: EngineResult[];
beforeAll(async () => {
  await writeStore(tinyWeights(tinyModels.llama!), model, { format: 'fp32' });
  engine = await openEngine({ model, backend: 'reference', gpuBatchSize: GPU_BATCH_SIZE, threads: 1 });
  undisturbed = await engine.run(requests);
});
afterAll(async () => {
  await engine.close();
  rmSync(scratch, { recursive: true });
});

describe('a killed run', () => {
  it('goes on in the middle: no token that a checkpoint has is computed again, nor its keys and values', async () => {
    const directory = await killAfter(engine, requests, 40, scratch);
    const { results, status, computed } = await resume(directory);
    expect(results).toEqual(undisturbed);
    const { recovery } = status;
    const total = undisturbed.reduce((sum, one) => sum + (one.kind === 'generate' ? one.tokens.length : 0), 0);
    expect(recovery).toMatchObject({ total: 12, problems: [], positionsRebuilt: 0 });
    // Thirty sweeps answer the first four, so by the fortieth the next four are under way.
    expect(recovery!.finished).toBeGreaterThanOrEqual(4);
    expect(recovery!.resumed).toBeGreaterThanOrEqual(3);
    expect(recovery!.positionsRead).toBeGreaterThan(100);
    expect(recovery!.tokensKept + computed).toBe(total);
    expect(recovery!.sweepsAgain).toBeLessThanOrEqual(recovery!.periodSweeps);
    expect(recovery!.generatedTokensAgain).toBeLessThanOrEqual(recovery!.periodSweeps * GPU_BATCH_SIZE);
  });

  it('goes on however often it is killed', async () => {
    let directory = await killAfter(engine, requests, 15, scratch);
    for (let attempt = 2; attempt < 5; attempt++) {
      directory = await killAfter(engine, requests, 15, scratch, directory);
    }
    const { results, status } = await resume(directory);
    expect(results).toEqual(undisturbed);
    expect(status.recovery!.tokensKept).toBeGreaterThan(150);
  });

  it('may go on with other batches and tiers', async () => {
    const directory = await killAfter(engine, requests, 40, scratch);
    const policy = { kv: { gpu: 0, cpu: 0.5, disk: 0.5 } };
    const options = { gpuBatchSize: 3, numGpuBatches: 2, hostMemoryBytes: 40e6, policy, offloadDir: scratch } as const;
    const other = await openEngine({ model, backend: 'reference', threads: 1, ...options });
    const { results, status } = await resume(directory, other);
    await other.close();
    expect(status.recovery).toMatchObject({ problems: [], positionsRebuilt: 0 });
    expect(results.map(tokensOf)).toEqual(undisturbed.map(tokensOf));
  });
});

describe('a damaged checkpoint', () => {
  const newest = (directory: string, kind: string) =>
    readdirSync(directory)
      .filter((name) => name.startsWith(kind) && !name.endsWith('.tmp'))
      .sort((a, b) => Number(/\d+/.exec(b)) - Number(/\d+/.exec(a)))[0]!;
  const damage = (directory: string, name: string, how: 'cut' | 'flip' | 'lose', ...at: number[]) =>
    damageFile(directory, { file: readdirSync(directory).sort().indexOf(name), how, at: at.length > 0 ? at : [100] });

  it.each([
    ['manifest-', 'cut', 'its manifest is damaged'],
    ['manifest-', 'flip', 'its manifest is damaged'],
    ['state-', 'cut', /its state is damaged: needed \d+ B, found 100 B/],
    ['state-', 'flip', 'its state is damaged: the bytes do not fit their sum'],
    ['state-', 'lose', /no such file/],
  ] as const)('whose newest %s is hurt (%s) gives way to the one before', async (kind, how, reason) => {
    const directory = await killAfter(engine, requests, 40, scratch);
    // The state of a generation that is just being written has no manifest yet.
    const generation = /\d+/.exec(newest(directory, 'manifest-'))![0];
    damage(directory, `${kind}${generation}.${kind === 'state-' ? 'bin' : 'json'}`, how);
    const { results, status } = await resume(directory);
    expect(results).toEqual(undisturbed);
    expect(status.recovery!.problems).toEqual([expect.stringMatching(reason)]);
    expect(status.recovery!.problems[0]).toContain(`checkpoint ${generation} cannot be used`);
    expect(status.recovery!.resumed).toBeGreaterThanOrEqual(3);
  });

  it.each(['cut', 'flip', 'lose'] as const)('whose KV cache is hurt (%s) serves with its tokens', async (how) => {
    const directory = await killAfter(engine, requests, 40, scratch);
    const name = newest(directory, 'kv-');
    // A flip in the place of a sequence that has ended would hurt nobody.
    const places = how === 'flip' ? Math.floor(statSync(join(directory, name)).size / 500) : 1;
    damage(directory, name, how, ...Array.from({ length: places }, (_, i) => 500 * i + 100));
    const { results, status } = await resume(directory);
    expect(results).toEqual(undisturbed);
    expect(status.recovery!.positionsRebuilt).toBeGreaterThan(0);
    expect(status.recovery!.problems).toHaveLength(1);
    expect(status.recovery!.resumed).toBeGreaterThanOrEqual(3);
  });

  it('of which nothing is whole is told, and the run begins anew', async () => {
    const directory = await killAfter(engine, requests, 40, scratch);
    for (const name of readdirSync(directory)) if (name.startsWith('manifest-')) damage(directory, name, 'flip');
    const { results, status } = await resume(directory);
    expect(results).toEqual(undisturbed);
    expect(status.recovery).toMatchObject({ finished: 0, resumed: 0, tokensKept: 0 });
    expect(status.recovery!.problems).toHaveLength(2);
  });

  it('of other requests is not used', async () => {
    const directory = await killAfter(engine, requests.slice(1), 40, scratch);
    const { results, status } = await resume(directory);
    expect(results).toEqual(undisturbed);
    expect(status.recovery).toMatchObject({ finished: 0, resumed: 0 });
    expect(status.recovery!.problems[0]).toMatch(/it is of another run \(/);
  });

  it('of another arithmetic is not used', async () => {
    const onnx = await openEngine({ model, backend: 'onnx', gpuBatchSize: GPU_BATCH_SIZE, threads: 1 });
    const directory = await killAfter(onnx, requests, 40, scratch);
    await onnx.close();
    const { status } = await resume(directory);
    expect(status.recovery).toMatchObject({ finished: 0, resumed: 0 });
    expect(status.recovery!.problems[0]).toMatch(/it is of an engine with another arithmetic \(onnx-/);
  });
});

describe('a run with checkpoints', () => {
  it('that is cancelled writes one first, whether one was due or not', async () => {
    const directory = fresh();
    const abort = new AbortController();
    let sweeps = 0;
    const cancelled = engine.run(requests, {
      checkpoint: { directory, fencingToken: 1, costShare: 1e-9 },
      signal: abort.signal,
      onProgress: ({ checkpoint }) => {
        expect(checkpoint!.written).toBe(0);
        if (++sweeps === 20) abort.abort();
      },
    });
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    const { results, status } = await resume(directory);
    expect(results).toEqual(undisturbed);
    expect(status.recovery).toMatchObject({ sweepsAgain: 0, generatedTokensAgain: 0, positionsRebuilt: 0 });
    expect(status.recovery!.resumed).toBe(GPU_BATCH_SIZE);
  });

  it('keeps two generations, and no KV cache of sequences that have ended', async () => {
    const directory = fresh();
    await engine.run(requests, { checkpoint: everySweep(directory) });
    const names = readdirSync(directory);
    for (const kind of ['manifest-', 'state-']) {
      expect(names.filter((name) => name.startsWith(kind)).length).toBeLessThanOrEqual(2);
    }
    const [newest] = names.filter((name) => name.startsWith('manifest-')).sort();
    const manifest = JSON.parse(readFileSync(join(directory, newest!), 'utf8').split('\n')[0]!);
    expect(manifest).toMatchObject({ format: 1, fencingToken: 7, identity: { numerics: 'reference-1' } });
  });

  it('goes on without them when the disk is full, and says so', async () => {
    for (const full of ['kv-1.bin', 'state-1.bin', 'manifest-1.json.tmp']) {
      const directory = fresh();
      let told = 0;
      const { results, status } = await run(engine, { checkpoint: everySweep(directory) }, () => {
        // The system itself refuses what is written there, as it would on a full disk.
        if (told++ === 0) symlinkSync('/dev/full', join(directory, full));
      });
      expect(results).toEqual(undisturbed);
      expect(status).toMatchObject({ written: 0 });
      expect(status.problem).toBe(`${directory}: the disk is full; the run goes on without further checkpoints`);
    }
  });

  it('ends when another owner takes its directory over, and writes nothing there any more', async () => {
    const directory = fresh();
    const taken = `${directory}-taken`;
    let sweeps = 0;
    const before: string[] = [];
    const zombie = engine.run(requests, {
      checkpoint: everySweep(directory),
      onProgress: () => {
        if (++sweeps !== 20) return;
        renameSync(directory, taken);
        before.push(...contents(taken));
      },
    });
    await expect(zombie).rejects.toMatchObject({
      code: 'CANCELLED',
      message: expect.stringMatching(/taken this work/),
    });
    expect(existsSync(directory)).toBe(false);
    // What had a descriptor already may still reach the KV file, behind everything that a manifest speaks of.
    expect(contents(taken).filter((line) => !line.startsWith('kv-'))).toEqual(before.filter(isNoKv));
    expect((await resume(taken)).results).toEqual(undisturbed);
  });
});

const isNoKv = (line: string) => !line.startsWith('kv-');

describe('the pace of checkpoints', () => {
  it('is such that they cost their share of the time', () => {
    const pace = openPace(0.02);
    expect(pace.due(1, 0.5)).toBe(false);
    expect(pace.due(10, 1)).toBe(true);
    pace.began(10, 1);
    // A sweep takes 0.1 s, so at 2 % a cost of 0.03 s is earned in 15 sweeps.
    expect(pace.cost(0.03)).toBe(30);
    pace.complete();
    expect([24, 25].map((sweep) => pace.due(sweep, sweep / 10))).toEqual([false, true]);
  });

  it('lets no more sweeps pass than it promised, though the next costs more or less', () => {
    const pace = openPace(0.02);
    pace.began(10, 1);
    pace.cost(0.03);
    pace.complete();
    pace.began(25, 2.5);
    // Until this one is on the disk, the loop is to wait for it after 15 sweeps.
    expect(pace.cost(0.3)).toBe(300);
    expect(pace.due(40, 4)).toBe(true);
    // Had it been cheap, those 15 sweeps would have passed, and then the next checkpoint takes one.
    expect(pace.cost(0.002)).toBe(16);
  });

  it('is every sweep where they may cost anything', () => {
    const pace = openPace(Number.POSITIVE_INFINITY);
    expect(pace.due(1, 1e-9)).toBe(true);
    pace.began(1, 1e-9);
    expect(pace.cost(100)).toBe(2);
    expect(pace.due(2, 2e-9)).toBe(true);
  });
});

it.each([
  ['nothing is known of the disk', { bytes: 0, seconds: 0 }, 1000, true],
  ['too little is known of the disk', { bytes: 1e6, seconds: 60 }, 1000, true],
  ['nothing is known of the arithmetic', { bytes: 1e8, seconds: 60 }, null, true],
  ['the disk gives 2000 rows a second, arithmetic 1000', { bytes: 1e8, seconds: 50 }, 1000, true],
  ['the disk gives 500 rows a second, arithmetic 1000', { bytes: 1e8, seconds: 200 }, 1000, false],
])('keys and values of 1000 B are read rather than computed where %s: %#', (_, rate, rowsPerSecond, expected) => {
  expect(readsFaster(1000, rate, rowsPerSecond)).toBe(expected);
});

describe('the sum over keys and values', () => {
  it('is FNV-1a over their words, even and odd ones apart', () => {
    // By an independent implementation of FNV-1a, over the words 0x3f800000, 0x40000000, 0x40400000, 0x40800000.
    const sum = checksum(Float32Array.of(1, 2, 3, 4), EMPTY_CHECKSUM);
    expect(sum.map((word) => word >>> 0)).toEqual([0xefb697cd, 0x5af697cd]);
  });

  it('may be taken in pieces', () => {
    const values = Float32Array.from({ length: 12 }, (_, i) => Math.sin(i));
    const pieces = [values.subarray(0, 4), values.subarray(4, 10), values.subarray(10)];
    const sum = pieces.reduce((before: Checksum, piece) => checksum(piece, before), EMPTY_CHECKSUM);
    expect(sum).toEqual(checksum(values, EMPTY_CHECKSUM));
  });
});

function fresh(): string {
  return mkdtempSync(join(scratch, 'run-'));
}

function everySweep(directory: string): CheckpointOptions {
  return { directory, fencingToken: 7, costShare: Number.POSITIVE_INFINITY };
}

function resume(directory: string, by = engine) {
  return run(by, { checkpoint: everySweep(directory) });
}

async function run(by: Engine, options: RunOptions, onProgress = () => {}) {
  let status: CheckpointStatus = { written: 0 };
  let computed = 0;
  const results = await by.run(requests, {
    ...options,
    onProgress: ({ checkpoint, generatedTokens }) => {
      onProgress();
      status = checkpoint!;
      computed = generatedTokens;
    },
  });
  return { results, status, computed };
}

function tokensOf(result: EngineResult): readonly unknown[] {
  return result.kind === 'generate' ? result.tokens : result.options.map(({ isGreedy }) => isGreedy);
}

/** Names with their bytes, one a line. */
function contents(directory: string): string[] {
  return readdirSync(directory).map((name) => `${name} ${readFileSync(join(directory, name), 'base64')}`);
}
