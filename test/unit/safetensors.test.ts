import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSafetensorsDirectory, openSafetensorsFile } from '../../engine/model/safetensors.js';
import type { TensorFiles } from '../../engine/model/tensors.js';
import { readRows } from '../../engine/model/tensors.js';
import { floats, safetensorsBytes, withDirectory, withHeader } from '../support/model-files.js';

const matrix = { name: 'matrix', type: 'F32', shape: [3, 2], bytes: floats(1, 2, 3, 4, 5, 6) };
// 1, -2 and 0.5 as the upper halves of their float32.
const brain = { name: 'brain', type: 'BF16', shape: [3], bytes: Uint8Array.of(0x80, 0x3f, 0x00, 0xc0, 0x00, 0x3f) };
const half = { name: 'half', type: 'F16', shape: [2], bytes: Uint8Array.of(0x00, 0x3c, 0x00, 0xc0) };
const whole = { name: 'whole', type: 'I64', shape: [1], bytes: new Uint8Array(8) };

describe('safetensors file', () => {
  it.each([
    ['rows from the middle of a matrix', 'matrix', 1, 3, [3, 4, 5, 6]],
    ['no rows', 'matrix', 2, 2, []],
    ['elements of a bfloat16 vector', 'brain', 1, 3, [-2, 0.5]],
    ['a float16 vector', 'half', 0, 2, [1, -2]],
  ] as const)('gives %s', (_, name, start, end, expected) =>
    withFile(safetensorsBytes([brain, matrix, half, whole]), async (files) => {
      const values = new Float32Array(expected.length);
      await readRows(files.tensors.get(name)!, start, end, values);
      expect([...values]).toEqual(expected);
    }),
  );

  it('refuses to read a type that has no float form, and names those that it reads', () =>
    withFile(safetensorsBytes([whole]), async (files) => {
      const reading = readRows(files.tensors.get('whole')!, 0, 1, new Float32Array(1));
      await expect(reading).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/whole.*I64.*F32, F16, BF16/),
      });
    }));

  const entry = (change: object) => ({ t: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...change } });
  it.each([
    ['an empty file', Buffer.alloc(0), /header length: needed 8 B.*found 0 B/],
    [
      'a header longer than the file',
      Buffer.from([200, 0, 0, 0, 0, 0, 0, 0, 123, 125]),
      /header should have 200 B, there is room for 2 B/,
    ],
    ['a header of absurd length', Buffer.alloc(64, 0xff), /header should have 18446744073709552000 B/],
    ['a header that is not JSON', withHeader('{"t":', new Uint8Array(0)), /header is not JSON/],
    ['a header that is no object', withHeader([1], new Uint8Array(0)), /header is not a JSON object/],
    [
      'a type that does not exist',
      withHeader(entry({ dtype: 'F31' }), new Uint8Array(8)),
      /tensor t: needed a type among .*F32.*found "F31"/,
    ],
    [
      'a type named like a property of every object',
      withHeader(entry({ dtype: 'constructor' }), new Uint8Array(8)),
      /tensor t: needed a type/,
    ],
    ['a negative size', withHeader(entry({ shape: [-2] }), new Uint8Array(8)), /tensor t: needed a shape.*\[-2\]/],
    [
      'offsets that run backwards',
      withHeader(entry({ data_offsets: [8, 0] }), new Uint8Array(8)),
      /tensor t: needed data_offsets/,
    ],
    [
      'offsets that do not fit the shape',
      withHeader(entry({ shape: [3] }), new Uint8Array(8)),
      /tensor t: F32 \(3\) needs 12 B, its offsets give 8 B/,
    ],
    [
      'a tensor beyond the end',
      withHeader(entry({}), new Uint8Array(4)),
      /tensor t: needed \d+ B, the file has \d+ B.*truncated/,
    ],
    [
      'tensors that overlap',
      withHeader({ ...entry({}), u: { dtype: 'F32', shape: [2], data_offsets: [4, 12] } }, new Uint8Array(12)),
      /tensor u begins at \d+ B, inside tensor t/,
    ],
    [
      'a name that is there twice',
      withHeader(
        `{"t":${JSON.stringify(entry({}).t)},"t":${JSON.stringify(entry({ data_offsets: [8, 16] }).t)}}`,
        new Uint8Array(16),
      ),
      /the tensors take 8 B of 16 B; one is missing in the header, or there twice/,
    ],
    [
      'bytes that are no tensor',
      withHeader(entry({}), new Uint8Array(12)),
      /the tensors take 8 B of 12 B; one is missing/,
    ],
  ])('refuses %s', (_, bytes, message) =>
    withDirectory(async (directory) => {
      const path = join(directory, 'model.safetensors');
      writeFileSync(path, bytes);
      const opening = openSafetensorsFile(path);
      await expect(opening).rejects.toMatchObject({ code: 'BAD_WEIGHTS', message: expect.stringMatching(message) });
      await expect(opening).rejects.toThrow(path);
    }),
  );

  it('is damaged wherever it is cut', () =>
    withDirectory(async (directory) => {
      const bytes = safetensorsBytes([brain, matrix]);
      const path = join(directory, 'cut.safetensors');
      for (let length = 0; length < bytes.length; length++) {
        writeFileSync(path, bytes.subarray(0, length));
        await expect(openSafetensorsFile(path)).rejects.toMatchObject({ code: 'BAD_WEIGHTS' });
      }
    }));
});

describe('safetensors directory', () => {
  const shards = {
    'model-00001-of-00002.safetensors': safetensorsBytes([matrix]),
    'model-00002-of-00002.safetensors': safetensorsBytes([brain]),
  };
  const [first, second] = Object.keys(shards);
  const index = (weightMap: object) => ({ 'model.safetensors.index.json': JSON.stringify({ weight_map: weightMap }) });

  it('finds each tensor in the shard that the index names', () =>
    withFiles({ ...shards, ...index({ matrix: first, brain: second }) }, async (directory) => {
      const files = await openSafetensorsDirectory(directory);
      expect([...files.tensors.keys()].sort()).toEqual(['brain', 'matrix']);
      const values = new Float32Array(3);
      await readRows(files.tensors.get('brain')!, 0, 3, values);
      expect([...values]).toEqual([1, -2, 0.5]);
      await files.close();
    }));

  it.each([
    [
      'a shard that is missing',
      { matrix: first, brain: 'model-3.safetensors' },
      /model-3\.safetensors: this shard is named by/,
    ],
    [
      'a tensor that its shard lacks',
      { matrix: second },
      /tensor matrix should be in model-00002-of-00002\.safetensors, which lacks it/,
    ],
    [
      'a path that leaves the directory',
      { matrix: '../model.safetensors' },
      /tensor matrix: needed the name of a safetensors file in the same directory/,
    ],
    ['an absolute path', { matrix: '/etc/model.safetensors' }, /tensor matrix: needed the name of a safetensors file/],
    ['a shard that is no text', { matrix: 5 }, /tensor matrix: needed the name of a safetensors file/],
  ])('refuses an index with %s', (_, weightMap, message) =>
    withFiles({ ...shards, ...index(weightMap) }, async (directory) => {
      await expect(openSafetensorsDirectory(directory)).rejects.toMatchObject({
        code: 'BAD_WEIGHTS',
        message: expect.stringMatching(message),
      });
    }),
  );

  it('refuses a tensor that is in two shards', () =>
    withFiles(
      {
        [first!]: safetensorsBytes([matrix]),
        [second!]: safetensorsBytes([brain, matrix]),
        ...index({ matrix: first, brain: second }),
      },
      async (directory) => {
        await expect(openSafetensorsDirectory(directory)).rejects.toMatchObject({
          code: 'BAD_WEIGHTS',
          message: expect.stringMatching(
            /tensor matrix should be in model-00001-of-00002\.safetensors, and is in model-00002-of-00002\.safetensors too/,
          ),
        });
      },
    ));

  it.each([
    ['an index without a map', { 'model.safetensors.index.json': '{}' }, 'BAD_WEIGHTS', /needed an object weight_map/],
    ['an index that is not JSON', { 'model.safetensors.index.json': '{' }, 'BAD_WEIGHTS', /not JSON/],
    ['shards without an index', shards, 'BAD_WEIGHTS', /2 safetensors files and no model\.safetensors\.index\.json/],
    [
      'weights of another format',
      { 'pytorch_model.bin': 'x' },
      'UNSUPPORTED',
      /needed model\.safetensors.*found pytorch_model\.bin/,
    ],
  ])('refuses %s', (_, contents, code, message) =>
    withFiles(contents as Record<string, string>, async (directory) => {
      await expect(openSafetensorsDirectory(directory)).rejects.toMatchObject({
        code,
        message: expect.stringMatching(message),
      });
    }),
  );
});

function withFile(bytes: Buffer, use: (files: TensorFiles) => Promise<void>): Promise<void> {
  return withFiles({ 'model.safetensors': bytes }, async (directory) => {
    const files = await openSafetensorsFile(join(directory, 'model.safetensors'));
    await use(files).finally(() => files.close());
  });
}

function withFiles(
  contents: Readonly<Record<string, string | Buffer>>,
  use: (directory: string) => Promise<void>,
): Promise<void> {
  return withDirectory((directory) => {
    for (const [name, content] of Object.entries(contents)) writeFileSync(join(directory, name), content);
    return use(directory);
  });
}
