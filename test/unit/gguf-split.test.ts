import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ggufModels, openGgufModel } from '../../engine/model/gguf-split.js';
import { openModel } from '../../engine/model/open.js';
import { readRows } from '../../engine/model/tensors.js';
import { convertToGguf } from '../support/gguf-models.js';
import { floats, ggufBytes, type Typed, withDirectory } from '../support/model-files.js';

const tensor = (name: string, ...values: number[]) => ({
  name,
  type: 0,
  shape: [values.length],
  bytes: floats(...values),
});
const split = (number: number, count: number, more: Record<string, Typed> = {}) =>
  ({ 'split.no': ['u32', number], 'split.count': ['u32', count], ...more }) as Record<string, Typed>;
/** The first has the metadata and no tensor, as llama-gguf-split can write it. */
const files = {
  'm-00001-of-00003.gguf': ggufBytes(split(0, 3, { 'split.tensors.count': ['i32', 3], name: ['text', 'whole'] })),
  'm-00002-of-00003.gguf': ggufBytes(split(1, 3), [tensor('a', 1, 2), tensor('b', 3)]),
  'm-00003-of-00003.gguf': ggufBytes(split(2, 3), [tensor('c', 4)]),
};

describe('a GGUF model of several files', () => {
  it.each(Object.keys(files))('is opened by the name %s', (name) =>
    withFiles({}, async (directory) => {
      const model = await openGgufModel(join(directory, name));
      expect(model.metadata.get('name')).toBe('whole');
      expect(model.paths).toEqual(Object.keys(files).map((file) => join(directory, file)));
      const values = new Float32Array(1);
      await readRows(model.tensors.get('c')!, 0, 1, values);
      expect([...model.tensors.keys(), ...values]).toEqual(['a', 'b', 'c', 4]);
      await model.close();
    }),
  );

  it('is opened through a link to its first file alone', () =>
    withFiles({}, async (directory) => {
      const link = join(directory, 'elsewhere', 'm-00001-of-00003.gguf');
      mkdirSync(join(directory, 'elsewhere'));
      symlinkSync(join(directory, 'm-00001-of-00003.gguf'), link);
      const model = await openGgufModel(link);
      expect(model.tensors.size).toBe(3);
      await model.close();
    }));

  it('counts once among the models of a directory', () => {
    expect(ggufModels([...Object.keys(files), 'other.gguf', 'README.md'])).toEqual([
      'm-00001-of-00003.gguf',
      'other.gguf',
    ]);
  });

  it('has the weights of the same model in one file, and an identity of all its files', () =>
    withDirectory(async (directory) => {
      const { metadata, tensors } = await convertToGguf('qwen2');
      writeFileSync(join(directory, 'whole.gguf'), ggufBytes(metadata, tensors));
      mkdirSync(join(directory, 'split'));
      const half = Math.ceil(tensors.length / 2);
      const parts = [tensors.slice(0, half), tensors.slice(half)];
      parts.forEach((own, number) => {
        const counts = { ...(number === 0 ? metadata : {}), ...split(number, 2) };
        writeFileSync(join(directory, 'split', `q-0000${number + 1}-of-00002.gguf`), ggufBytes(counts, own));
      });
      const [whole, joined] = [
        await openModel(join(directory, 'whole.gguf')),
        await openModel(join(directory, 'split')),
      ];
      expect(joined.files).toHaveLength(2);
      expect(joined.weights.identity).not.toBe(whole.weights.identity);
      for (const name of whole.weights.names) {
        expect(await joined.weights.read(name), name).toEqual(await whole.weights.read(name));
      }
      await Promise.all([whole, joined].map(({ weights }) => weights.close()));
    }));

  it.each([
    [
      'a file that is missing',
      { 'm-00002-of-00003.gguf': undefined },
      /m-00002-of-00003\.gguf: this file of a split GGUF is missing/,
    ],
    [
      'a file of another place',
      { 'm-00003-of-00003.gguf': files['m-00002-of-00003.gguf'] },
      /m-00003-of-00003\.gguf: needed split\.no 2 of 3, found 1 of 3/,
    ],
    [
      'a file that is whole by itself among them',
      { 'm-00003-of-00003.gguf': ggufBytes({}, [tensor('c', 4)]) },
      /needed split\.no 2 of 3, found undefined of undefined/,
    ],
    [
      'a tensor that is there twice',
      { 'm-00003-of-00003.gguf': ggufBytes(split(2, 3), [tensor('a', 4)]) },
      /m-00003-of-00003\.gguf: tensor a is in .*m-00002-of-00003\.gguf too/,
    ],
    [
      'fewer tensors than there should be',
      { 'm-00003-of-00003.gguf': ggufBytes(split(2, 3)) },
      /should have 3 tensors together, and have 2/,
    ],
    [
      'an absurd count of files',
      { 'm-00001-of-00003.gguf': ggufBytes(split(0, 4_000_000_000)) },
      /one of 4000000000 files of a split GGUF, and its name does not end in/,
    ],
    ['a damaged file', { 'm-00003-of-00003.gguf': Buffer.from('GGUF') }, /m-00003-of-00003\.gguf: version: needed 4 B/],
  ])('is refused with %s', (_, change, message) =>
    withFiles(change, async (directory) => {
      const opening = openGgufModel(join(directory, 'm-00001-of-00003.gguf'));
      await expect(opening).rejects.toMatchObject({ code: 'BAD_WEIGHTS', message: expect.stringMatching(message) });
    }),
  );

  it('is refused under a name that does not say where the others are', () =>
    withFiles({}, async (directory) => {
      const path = join(directory, 'renamed.gguf');
      renameSync(join(directory, 'm-00001-of-00003.gguf'), path);
      await expect(openGgufModel(path)).rejects.toThrow(
        /one of 3 files of a split GGUF, and its name does not end in -00001-of-00003\.gguf/,
      );
    }));
});

function withFiles(
  change: Readonly<Record<string, Buffer | undefined>>,
  use: (directory: string) => Promise<void>,
): Promise<void> {
  return withDirectory((directory) => {
    for (const [name, bytes] of Object.entries({ ...files, ...change })) {
      if (bytes) writeFileSync(join(directory, name), bytes);
      else rmSync(join(directory, name), { force: true });
    }
    return use(directory);
  });
}
