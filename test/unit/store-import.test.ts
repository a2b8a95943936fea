import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import type { EngineError } from '../../engine/errors.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { dummyWeights } from '../../engine/model/dummy.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import type { StoreFormat } from '../../engine/model/store.js';
import { openStore, verifyStore } from '../../engine/model/store-read.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { WeightSource } from '../../engine/model/weights.js';

const scratch = mkdtempSync(join(tmpdir(), 'import-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const config: ModelConfig = {
  ...namedShape('opt-125m'),
  numLayers: 2,
  hiddenSize: 64,
  embeddingSize: 64,
  numHeads: 4,
  numKvHeads: 4,
  headDim: 16,
  ffnSize: 128,
  vocabSize: 200,
  maxPositions: 50,
};
const source = dummyWeights(config, 1);

let directory: string;
beforeEach((context) => {
  directory = join(scratch, context.task.id);
});

describe('an import that fails', () => {
  it.each([
    ['its source cannot be read', failing(new Error('the source is gone')), {}, 'the source is gone'],
    ['it is cancelled', source, { signal: AbortSignal.abort() }, 'the import was cancelled'],
  ])('leaves nothing behind: %s', async (_, weights, options, text) => {
    await expect(writeStore(weights, directory, { format: 'int8', ...options })).rejects.toThrow(text);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('leaves the store that was there as it was', async () => {
    await writeStore(source, directory, { format: 'fp16' });
    const before = readFileSync(join(directory, 'store.json'), 'utf8');
    await expect(writeStore(failing(new Error('gone')), directory, { format: 'int4' })).rejects.toThrow('gone');
    expect(readFileSync(join(directory, 'store.json'), 'utf8')).toBe(before);
    await verifyStore(directory);
  });

  it('because the disk is too small says so before anything is written', async () => {
    const huge = dummyWeights({ ...config, vocabSize: 2 ** 44 }, 1);
    const error = await failure(writeStore(huge, directory, { format: 'int4' }));
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY', details: { tier: 'disk' } });
    expect(error.details.needBytes).toBeGreaterThan(2 ** 48);
    expect(readdirSync(directory)).toEqual([]);
  });

  it.each([
    ['too large', 7e4, 'fp16', 'row 130 holds 70000, needed at most 65504'],
    ['too large', -1e5, 'int4', 'row 130 holds -100000, needed at most 65504'],
    ['not a number', Number.NaN, 'int8', 'row 130 holds NaN'],
  ] as const)('because a value is %s names tensor and row: %d as %s', async (_, value, format, text) => {
    const error = await failure(writeStore(withValue(value), directory, { format }));
    expect(error.code).toBe('BAD_WEIGHTS');
    expect(error.message).toContain(text);
    expect(error.message).toContain('embed.tokens.weight');
    await writeStore(withValue(value), directory, { format: 'fp32' });
    await verifyStore(directory);
  });

  it('because its source changes meanwhile leaves nothing', async () => {
    const path = `${directory}.source`;
    writeFileSync(path, 'one');
    const onProgress = () => writeFileSync(path, 'two!');
    const error = await failure(writeStore(source, directory, { format: 'fp16', files: [path], onProgress }));
    expect(error.message).toContain(`${path}: the file changed while it was imported`);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('for want of such a format names those there are', async () => {
    const error = await failure(writeStore(source, directory, { format: 'int2' as StoreFormat }));
    expect(error).toMatchObject({ code: 'BAD_INPUT', message: expect.stringContaining('fp32, fp16, int8, int4') });
  });

  it('names a directory that cannot be made', async () => {
    writeFileSync(directory, 'a file');
    const error = await failure(writeStore(source, join(directory, 'store'), { format: 'fp16' }));
    expect(error).toMatchObject({
      code: 'BAD_INPUT',
      message: expect.stringContaining('cannot be made a store (ENOTDIR)'),
    });
  });

  it.each(['config.json', 'notes.txt', 'tokenizer.json'])(
    'spares a directory that is no store: it holds %s',
    async (name) => {
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, name), '{}');
      const error = await failure(writeStore(source, directory, { format: 'fp16' }));
      expect(error).toMatchObject({ code: 'BAD_INPUT', message: expect.stringContaining(`holds ${name}`) });
      expect(readdirSync(directory)).toEqual([name]);
    },
  );
});

describe('an import', () => {
  it('replaces the store before it, which its readers keep', async () => {
    await writeStore(source, directory, { format: 'fp16' });
    const reader = await openStore(directory);
    await writeStore(dummyWeights(config, 2), directory, { format: 'fp16' });
    const tensor = reader.tensor(1, 'qkv');
    const read = async (store: typeof reader) => {
      const matrix = await store.readRows(tensor, 0, 1, store.allocate(store.roomFor(tensor, 0, 1)));
      return matrix.type === 'float16' ? Array.from(matrix.data) : [];
    };
    const old = await read(reader);
    const later = await openStore(directory);
    expect(old).not.toEqual(await read(later));
    expect(readdirSync(directory).sort()).toEqual(['store.json', 'weights.bin']);
    await Promise.all([reader.close(), later.close()]);
  });

  it('waits for no other: a second one into the same directory is refused while the first runs', async () => {
    let second: Promise<EngineError> | undefined;
    const onProgress = () => {
      second ??= failure(writeStore(source, directory, { format: 'fp16' }));
    };
    await writeStore(source, directory, { format: 'int8', onProgress });
    expect(await second).toMatchObject({ code: 'BAD_INPUT' });
    expect((await second)!.message).toContain(`process ${process.pid} on ${hostname()} is importing a model there`);
    await verifyStore(directory);
  });

  it.each([
    ['of a process that is gone', () => `2147483646 12345 ${hostname()}\n`],
    ['of a process whose number another has now', () => `${process.ppid} 1 ${hostname()}\n`],
    ['without an owner, and old', () => ''],
  ])('takes over a lock %s', async (_, owner) => {
    lockedBy(owner());
    utimesSync(join(directory, 'import.lock'), 1e9, 1e9);
    await writeStore(source, directory, { format: 'fp16' });
    expect(readdirSync(directory).sort()).toEqual(['store.json', 'weights.bin']);
  });

  it.each([
    ['of another host', () => '2147483646 12345 elsewhere\n', 'process 2147483646 on elsewhere'],
    ['without an owner yet', () => '', 'process unknown'],
  ])('respects a lock %s', async (_, owner, text) => {
    lockedBy(owner());
    const error = await failure(writeStore(source, directory, { format: 'fp16' }));
    expect(error).toMatchObject({ code: 'BAD_INPUT', message: expect.stringContaining(text) });
    expect(readdirSync(directory)).toEqual(['import.lock']);
  });

  it('follows one that was killed while its files took their names', async () => {
    const tokenizer = { json: {}, bosToken: undefined, eosToken: undefined, chatTemplate: undefined };
    await writeStore(source, directory, { format: 'fp16', tokenizer });
    rmSync(join(directory, 'store.json'));
    expect(readdirSync(directory).sort()).toEqual(['tokenizer.json', 'tokenizer_config.json', 'weights.bin']);
    await writeStore(source, directory, { format: 'fp16' });
    expect(readdirSync(directory).sort()).toEqual(['store.json', 'weights.bin']);
  });

  it('that is killed leaves no store, and the next one clears up after it', async () => {
    const script = `
      import { dummyWeights } from ${JSON.stringify(compiled('dummy.js'))};
      import { writeStore } from ${JSON.stringify(compiled('store-write.js'))};
      const config = ${JSON.stringify({ ...config, vocabSize: 3_000_000 })};
      await writeStore(dummyWeights(config, 1), ${JSON.stringify(directory)}, { format: 'fp32', onProgress: () => console.log('.') });
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(readdirSync(directory).sort()).toEqual(['import.lock', 'weights.bin.importing']);
    expect(await failure(openStore(directory))).toMatchObject({ code: 'BAD_INPUT' });
    await writeStore(source, directory, { format: 'fp16' });
    expect(readdirSync(directory).sort()).toEqual(['store.json', 'weights.bin']);
    await verifyStore(directory);
  });
});

function compiled(name: string): string {
  const url = new URL(`../../engine/model/${name}`, import.meta.url);
  expect(existsSync(url)).toBe(true);
  return url.href;
}

function lockedBy(owner: string): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'import.lock'), owner);
}

function failing(error: Error): WeightSource {
  return {
    ...source,
    read: (name, ...rest) => (name.startsWith('layers.1.up') ? Promise.reject(error) : source.read(name, ...rest)),
  };
}

/** One value of the embedding replaced. */
function withValue(value: number): WeightSource {
  return {
    ...source,
    read: async (name, rowStart, rowEnd, into) => {
      const values = await source.read(name, rowStart, rowEnd, into);
      if (name === 'embed.tokens.weight' && (rowStart ?? 0) <= 130) values[(130 - (rowStart ?? 0)) * 64 + 5] = value;
      return values;
    },
  };
}

async function failure(promise: Promise<unknown>): Promise<EngineError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as EngineError;
}
