import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunProgress } from '../../activities/contracts.js';
import { prepareRunDirectory } from '../../activities/run-file.js';
import { cacheDirectory } from '../../cli/bootstrap.js';
import { executeRun } from '../../cli/run-workflow.js';
import { InputError } from '../../datasets/errors.js';
import { readPart } from '../../datasets/output.js';
import { loadPipeline } from '../../datasets/spec.js';
import { EngineError } from '../../engine/errors.js';
import { FIXTURES } from '../support/golden.js';
import { type HashEngineOptions, openHashEngine } from '../support/hash-engine.js';
import { openTestTemporal, type TestTemporal } from '../support/temporal.js';

const ROWS = 24;
let server: TestTemporal;
beforeAll(async () => {
  server = await openTestTemporal();
});
afterAll(() => server.close());

describe('a pipeline', () => {
  it('answers every row once, in parts of which each is one shard', async () => {
    const { result, runDir } = await run('whole', {});
    expect(result).toMatchObject({
      runDir,
      rows: ROWS,
      errors: 0,
      shards: 4,
      reusedShards: 0,
      generatedTokens: 2 * ROWS,
    });
    expect(result.outputs).toEqual([0, 1, 2, 3].map((index) => `outputs/0000${index}.parquet`));
    const rows = await answers(runDir);
    expect(rows.map(({ rowId }) => rowId).toSorted()).toEqual(
      Array.from({ length: ROWS }, (_, i) => `story/${i}`).toSorted(),
    );
    expect(readdirSync(runDir).toSorted()).toEqual(
      expect.arrayContaining(['outputs', 'report.html', 'report.md', 'results.json', 'run.json', 'shards']),
    );
  });

  it('gives the same parts when it was interrupted, and computes none of them twice', async () => {
    const { runDir: whole } = await run('uninterrupted', {});
    const interrupt = new AbortController();
    const asked: string[] = [];
    const slow: HashEngineOptions = { millisecondsPerRow: 40, onRequest: ({ id }) => asked.push(id) };
    const stopAfterOne = ({ doneShards }: RunProgress) => doneShards >= 1 && interrupt.abort(new Error('Ctrl-C'));
    const first = run('interrupted', slow, { signal: interrupt.signal, onProgress: stopAfterOne });
    await expect(first).rejects.toThrow('Ctrl-C');
    const finished = readdirSync(join(server.directory, 'interrupted', 'run', 'outputs')).length;
    expect(finished).toBeGreaterThan(0);
    expect(finished).toBeLessThan(4);

    const again: string[] = [];
    const { result, runDir, resumed } = await run('interrupted', { onRequest: ({ id }) => again.push(id) });
    expect(resumed).toBe(true);
    expect(result.rows).toBe(ROWS);
    expect(again).toHaveLength(ROWS - finished * 6);
    expect(partBytes(runDir)).toEqual(partBytes(whole));
  });

  it('computes nothing where all parts are there, and still reports', async () => {
    await run('repeated', {});
    const { result } = await run('repeated', {
      onRequest: () => {
        throw new Error('asked again');
      },
    });
    expect(result).toMatchObject({ rows: ROWS, shards: 4, reusedShards: 4, seconds: 0 });
  });

  it('opens a new engine after the old one broke, and goes on', async () => {
    let failures = 0;
    let closed = 0;
    const { result } = await run('broken', {
      onRequest: () => {
        if (failures === 0) {
          failures += 1;
          throw new EngineError('BACKEND', 'the thread ended');
        }
      },
      onClose: () => {
        closed += 1;
      },
    });
    expect(result.rows).toBe(ROWS);
    expect(failures).toBe(1);
    expect(closed).toBe(2);
  });

  it('ends with the error of the engine where no other attempt can help', async () => {
    const failure = await run('refused', {
      onRequest: () => {
        throw new EngineError('OUT_OF_MEMORY', 'cpu tier: need 9 B, 8 B free; lower gpuBatchSize', { needBytes: 9 });
      },
    }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(EngineError);
    expect(failure).toMatchObject({ code: 'OUT_OF_MEMORY', details: { needBytes: 9 } });
    expect((failure as Error).message).toMatch(/^story, shard \d of 4: cpu tier: need 9 B/);
  });

  it('ends with the mistake that planning found', async () => {
    const failure = run('mistaken', {}, { template: '{{ inptu }}' });
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toThrow(/inptu/);
  });
});

interface RunSettings {
  readonly template?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: RunProgress) => void;
}

async function run(name: string, engine: HashEngineOptions, settings: RunSettings = {}) {
  const directory = join(server.directory, name);
  mkdirSync(directory, { recursive: true });
  const lines = Array.from({ length: ROWS }, (_, i) => JSON.stringify({ input: `There were ${i} cats.` }));
  writeFileSync(join(directory, 'lines.jsonl'), `${lines.join('\n')}\n`);
  const path = join(directory, 'pipeline.yaml');
  const { template = '{{ input }}', signal, onProgress } = settings;
  writeFileSync(
    path,
    [
      'name: story',
      `model: ${join(FIXTURES, 'stories260k')}`,
      'source: { path: lines.jsonl }',
      `prompt: { template: ${JSON.stringify(template)} }`,
      'generate: { maxNewTokens: 2, temperature: 1 }',
      'shardRows: 6',
      'columns: [input]',
    ].join('\n'),
  );
  const runDir = join(directory, 'run');
  const pipeline = loadPipeline(path, { runDir });
  const cacheDir = cacheDirectory();
  const file = await prepareRunDirectory({ pipeline, modelPath: pipeline.model, cacheDir, command: 'zigzag run' });
  let resumed = false;
  const result = await executeRun({
    file,
    temporal: server.temporal,
    cacheDir,
    openEngine: async () => openHashEngine(engine),
    resolveModel: (reference) => reference,
    onStarted: (started) => {
      resumed = started.resumed;
    },
    signal,
    ...(onProgress ? { onProgress } : {}),
  });
  return { result, runDir, resumed };
}

async function answers(runDir: string) {
  const parts = readdirSync(join(runDir, 'outputs')).map((name) => readPart(join(runDir, 'outputs', name)));
  return (await Promise.all(parts)).flat();
}

function partBytes(runDir: string): Record<string, string> {
  const directory = join(runDir, 'outputs');
  return Object.fromEntries(
    readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'base64')]),
  );
}
