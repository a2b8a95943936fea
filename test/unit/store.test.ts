import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { fromFloat16, toFloat16 } from '../../engine/memory/float16.js';
import { widen } from '../../engine/memory/packed.js';
import { dequantize, quantize } from '../../engine/memory/quantize.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { dummyWeights } from '../../engine/model/dummy.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { openModel } from '../../engine/model/open.js';
import type { StoreFormat } from '../../engine/model/store.js';
import { planStore } from '../../engine/model/store.js';
import { importModel } from '../../engine/model/store-import.js';
import { openStore, verifyStore } from '../../engine/model/store-read.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { WeightSource } from '../../engine/model/weights.js';
import { FIXTURES } from '../support/golden.js';

const scratch = mkdtempSync(join(tmpdir(), 'store-'));
afterAll(() => rmSync(scratch, { recursive: true }));
let directories = 0;
const fresh = () => join(scratch, `store-${directories++}`);

const formats: readonly StoreFormat[] = ['fp32', 'fp16', 'int8', 'int4'];
const models = ['llama', 'llama-tied-rope3', 'opt', 'opt-350m-style'];
const modelPath = (name: string) => join(FIXTURES, 'models', name);

/** Wide enough for slices that end inside a joined tensor and inside a group of rows. */
const wide: ModelConfig = {
  ...namedShape('llama-1.1b'),
  numLayers: 1,
  hiddenSize: 96,
  embeddingSize: 96,
  numHeads: 6,
  numKvHeads: 2,
  headDim: 16,
  ffnSize: 200,
  vocabSize: 30001,
};

describe.each(models.flatMap((model) => formats.map((format) => ({ model, format }))))('$model as $format', (given) => {
  const { model, format } = given;
  const directory = fresh();

  it('is the model it was made from, in its form', async () => {
    await importModel(modelPath(model), directory, { format });
    const { weights: source } = await openModel(modelPath(model));
    const { weights, format: found } = await openModel(directory);
    expect(found).toBe('store');
    expect(weights.config).toEqual(source.config);
    expect([...weights.names].sort()).toEqual([...source.names].sort());
    for (const name of source.names) {
      expect(weights.shape(name)).toEqual(source.shape(name));
      const exact = await source.read(name);
      const stored = await weights.read(name);
      if (format === 'fp32' || source.shape(name).length === 1) expectSame(stored, exact);
      else if (format === 'fp16') expectSame(stored, fromFloat16(toFloat16(exact)));
      else expectNear(stored, exact, format === 'int8' ? 255 : 15);
    }
    await verifyStore(directory);
    await Promise.all([weights.close(), source.close()]);
  });

  it('lies layer after layer, each region at a block, none in another', async () => {
    const { tensors, file, close } = await openStore(directory);
    let end = 4096;
    for (const { regions, sharedWith } of tensors) {
      for (const region of [regions.data, regions.scale, regions.min]) {
        if (region === undefined || sharedWith !== undefined) continue;
        expect(region.offset).toBe(end);
        end = Math.ceil((region.offset + region.bytes) / 4096) * 4096;
      }
    }
    expect(file.sizeBytes).toBe(end);
    expect(tensors.map(({ layer }) => layer)).toEqual(tensors.map(({ layer }) => layer).sort((a, b) => a - b));
    await close();
  });
});

describe('a store', () => {
  const source = dummyWeights(wide, 3);
  const small = dummyWeights({ ...wide, vocabSize: 301 }, 3);
  const qkv = ['query', 'key', 'value'].map((part) => `layers.0.${part}.weight`);
  const joined = async () =>
    Float32Array.from((await Promise.all(qkv.map((name) => source.read(name)))).flatMap((part) => [...part]));

  it('has each row where its place says, joined tensors row after row', async () => {
    const directory = fresh();
    await writeStore(small, directory, { format: 'fp32' });
    const store = await openStore(directory);
    const { offset, unitBytes } = store.tensor(1, 'qkv').regions.data;
    await store.close();
    const bytes = readFileSync(join(directory, 'weights.bin'));
    const key = await small.read('layers.0.key.weight', 5, 6);
    expect(floatsAt(bytes, offset + (96 + 5) * unitBytes, 96)).toEqual(key);
  });

  it.each(formats)('gives slices of rows that are parts of the whole, in %s', async (format) => {
    const directory = fresh();
    await writeStore(source, directory, { format });
    const store = await openStore(directory);
    const expected = {
      fp32: (x: Float32Array) => x,
      fp16: (x: Float32Array) => fromFloat16(toFloat16(x)),
      int8: grouped(8),
      int4: grouped(4),
    };
    const cases = [
      [store.tensor(1, 'qkv'), await joined()],
      [store.tensor(0, 'tokens'), await source.read('embed.tokens.weight')],
    ] as const;
    for (const [tensor, values] of cases) {
      const whole = expected[format](values);
      const rows = tensor.shape[0]!;
      for (const [start, end] of [
        [0, rows],
        [64, 128],
        [64, 70],
        [Math.floor(rows / 64) * 64, rows],
        [128, 128],
        [0, 1],
      ] as const) {
        const into = store.allocate(store.roomFor(tensor, start, end));
        const slice = await store.readRows(tensor, start, end, into);
        expect(slice.shape).toEqual([end - start, 96]);
        expectSame(widen(slice), whole.subarray(start * 96, end * 96));
      }
    }
    const counts = store.file.counts();
    if (store.file.direct) expect(counts.ordinaryBytes).toBe(0);
    await store.close();
  });

  it('refuses slices that begin inside a group, and room that is too small', async () => {
    const directory = fresh();
    await writeStore(small, directory, { format: 'int4' });
    const store = await openStore(directory);
    const tensor = store.tensor(1, 'qkv');
    await expect(store.readRows(tensor, 32, 64, store.allocate(1 << 20))).rejects.toThrow(
      'row 32 begins no group of 64',
    );
    await expect(store.readRows(tensor, 0, 161, store.allocate(1 << 20))).rejects.toThrow('rows 0 to 161 of 160');
    await expect(store.readRows(tensor, 0, 64, store.allocate(4096))).rejects.toThrow('needed room for');
    await store.close();
  });

  it('has a tied head once', () => {
    const config = { ...wide, tiedEmbeddings: true };
    const [tied, untied] = [planStore(config, 'fp16'), planStore(wide, 'fp16')];
    expect(untied.bytes - tied.bytes).toBe(Math.ceil((30001 * 96 * 2) / 4096) * 4096);
    const head = tied.tensors.find(({ layer, name }) => layer === 2 && name === 'tokens')!;
    expect(head.sharedWith).toBe(0);
    expect(head.regions).toEqual(tied.tensors.find(({ layer, name }) => layer === 0 && name === 'tokens')!.regions);
  });

  // 4.5 bits a value, as in FlexGen; 8.5 and 16 and 32 likewise.
  it.each([
    ['fp32', 32],
    ['fp16', 16],
    ['int8', 8.5],
    ['int4', 4.5],
  ] as const)('in %s takes %f bits a value', (format, bits) => {
    const { bytes } = planStore(namedShape('llama-1.1b'), format);
    expect((bytes * 8) / 1_100_048_384 / bits).toBeCloseTo(1, 2);
  });

  it('keeps the identity of its source only where no value changed', async () => {
    const identities = new Map<string, string>();
    for (const format of formats) {
      const directory = fresh();
      await writeStore(small, directory, { format });
      const store = await openStore(directory);
      identities.set(format, store.identity);
      await store.close();
    }
    expect(identities.get('fp32')).toBe(small.identity);
    expect(new Set(identities.values()).size).toBe(4);
    const halves = fresh();
    await writeStore(
      mapped(small, (values) => fromFloat16(toFloat16(values))),
      halves,
      { format: 'fp16' },
    );
    const store = await openStore(halves);
    expect(store.identity).toBe(small.identity);
    await store.close();
  });

  it('brings the tokenizer and the chat template along', async () => {
    const directory = fresh();
    const path = join(FIXTURES, 'stories260k');
    await importModel(path, directory, { format: 'fp16' });
    const [original, stored] = [await openModel(path), await openModel(directory)];
    const text = 'Once upon a time, there was a little girl named Zoë.';
    const ids = await original.tokenizer!.encode(text);
    expect(await stored.tokenizer!.encode(text)).toEqual(ids);
    expect(stored.tokenizer!.decode(ids)).toBe(original.tokenizer!.decode(ids));
    expect([stored.tokenizer!.bosToken, stored.tokenizer!.eosToken, stored.chatTemplate]).toEqual([
      original.tokenizer!.bosToken,
      original.tokenizer!.eosToken,
      original.chatTemplate,
    ]);
    await Promise.all([original.weights.close(), stored.weights.close()]);
  });

  it('can be made from a store', async () => {
    const [first, second] = [fresh(), fresh()];
    await importModel(modelPath('opt'), first, { format: 'fp32' });
    await importModel(first, second, { format: 'fp32' });
    const sum = (directory: string) =>
      createHash('sha256')
        .update(readFileSync(join(directory, 'weights.bin')).subarray(4096))
        .digest('hex');
    expect(sum(second)).toBe(sum(first));
  });

  it('tells how far its import is, up to the end', async () => {
    const progress: (readonly [number, number])[] = [];
    await writeStore(small, fresh(), { format: 'int8', onProgress: (done, total) => progress.push([done, total]) });
    expect(progress.at(-1)![0]).toBe(progress.at(-1)![1]);
    expect(progress.every(([done], i) => i === 0 || done >= progress[i - 1]![0])).toBe(true);
  });
});

describe('a store that is not right', () => {
  const made = fresh();
  const sourceCopy = join(scratch, 'source');

  it('is made first', async () => {
    cpSync(modelPath('opt'), sourceCopy, { recursive: true });
    await importModel(sourceCopy, made, { format: 'fp16' });
    expect(readdirSync(made).sort()).toEqual(['store.json', 'weights.bin']);
  });

  it.each([
    [
      'truncated',
      (d: string) => writeFileSync(join(d, 'weights.bin'), readFileSync(join(made, 'weights.bin')).subarray(0, -4096)),
      'BAD_WEIGHTS',
      'it is truncated',
    ],
    [
      'with a header cut short',
      (d: string) => writeFileSync(join(d, 'store.json'), readFileSync(join(made, 'store.json')).subarray(0, 999)),
      'BAD_WEIGHTS',
      'store.json: not JSON',
    ],
    [
      'with an edited header',
      (d: string) => editHeader(d, '"numHeads":4', '"numHeads":2'),
      'BAD_WEIGHTS',
      'damaged or edited',
    ],
    [
      'of another version',
      (d: string) => editHeader(d, '"version":1', '"version":2'),
      'BAD_INPUT',
      'a store of version 2, this program reads version 1',
    ],
    ['without a header', (d: string) => rmSync(join(d, 'store.json')), 'BAD_INPUT', 'no store.json'],
    [
      'without its data',
      (d: string) => rmSync(join(d, 'weights.bin')),
      'BAD_INPUT',
      'weights.bin: cannot be opened (ENOENT)',
    ],
    ['with the data of another', swapData, 'BAD_WEIGHTS', 'does not belong to store.json'],
  ] as const)('is refused when opened: %s', async (_, damage, code, text) => {
    const directory = fresh();
    cpSync(made, directory, { recursive: true });
    await damage(directory);
    const error = await failure(openStore(directory));
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(text)]);
  });

  it('is found out by its sums, which name the damaged tensor', async () => {
    const directory = fresh();
    cpSync(made, directory, { recursive: true });
    const store = await openStore(directory);
    const { offset, bytes } = store.tensor(2, 'up').regions.data;
    await store.close();
    await verifyStore(directory);
    const data = readFileSync(join(directory, 'weights.bin'));
    data[offset + bytes - 1]! ^= 4;
    writeFileSync(join(directory, 'weights.bin'), data);
    const error = await failure(verifyStore(directory));
    expect([error.code, error.message]).toEqual([
      'BAD_WEIGHTS',
      expect.stringContaining('layer 2 up (layers.1.up.weight)'),
    ]);
  });

  it('because its source is another now, says to import again', async () => {
    const path = join(sourceCopy, 'model.safetensors');
    const before = readFileSync(path);
    utimesSync(path, 1e9, 1e9);
    await (await openStore(made)).close();
    const changed = Buffer.from(before);
    changed[changed.length - 1]! ^= 1;
    writeFileSync(path, changed);
    for (const bytes of [changed, Buffer.concat([before, before])]) {
      writeFileSync(path, bytes);
      const error = await failure(openStore(made));
      expect([error.code, error.message]).toEqual(['BAD_INPUT', expect.stringContaining('import the model again')]);
    }
    rmSync(sourceCopy, { recursive: true });
    await (await openStore(made)).close();
  });
});

function grouped(bits: 4 | 8) {
  return (values: Float32Array) => dequantize(quantize(values, [values.length / 96, 96], 0, bits));
}

function mapped(source: WeightSource, change: (values: Float32Array) => Float32Array): WeightSource {
  return {
    ...source,
    read: async (name, rowStart, rowEnd, into) => {
      const values = change(await source.read(name, rowStart, rowEnd));
      into?.set(values);
      return into ?? values;
    },
  };
}

async function swapData(directory: string): Promise<void> {
  const other = fresh();
  await importModel(modelPath('opt'), other, { format: 'fp16' });
  cpSync(join(other, 'weights.bin'), join(directory, 'weights.bin'));
  expect(statSync(join(directory, 'weights.bin')).size).toBe(statSync(join(other, 'weights.bin')).size);
}

function editHeader(directory: string, from: string, to: string): void {
  const path = join(directory, 'store.json');
  const text = readFileSync(path, 'utf8');
  expect(text).toContain(from);
  writeFileSync(path, text.replace(from, to));
}

/** Every column of 64 rows spans its own range; none is wider than the tensor's. */
function expectNear(found: Float32Array, expected: Float32Array, levels: number): void {
  const range = expected.reduce((widest, value) => Math.max(widest, Math.abs(value)), 0) * 2;
  const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i]!)), 0);
  expect(worst).toBeGreaterThan(0);
  expect(worst).toBeLessThan(((range / levels) * 1.5) / 2);
}

/** By their bits: comparing millions of numbers one by one takes minutes. */
function expectSame(found: Float32Array, expected: Float32Array): void {
  const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) => new Uint8Array(buffer, byteOffset, byteLength);
  expect(found.length).toBe(expected.length);
  expect(Buffer.compare(bytes(found), bytes(expected))).toBe(0);
}

function floatsAt(bytes: Buffer, offset: number, count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => bytes.readFloatLE(offset + 4 * i));
}

async function failure(promise: Promise<unknown>): Promise<Error & { code: string }> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error & { code: string };
}
