import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EngineError } from '../../engine/errors.js';
import type { GgufFile } from '../../engine/model/gguf.js';
import { openGguf } from '../../engine/model/gguf.js';
import { readRows } from '../../engine/model/tensors.js';
import { FIXTURES } from '../support/golden.js';
import { floats, ggufBytes, withDirectory } from '../support/model-files.js';
import { smollm2IsMissing, smollm2Path } from '../support/smollm2.js';

const f32 = 0;
const q4_0 = 2;
const iq1s = 19;
const metadata = {
  'general.architecture': ['text', 'llama'],
  'general.alignment': ['u32', 64],
  count: ['u64', 2 ** 40],
  negative: ['i32', -7],
  half: ['f32', 0.5],
  yes: ['bool', true],
  words: ['texts', ['a', '', 'ü€😀']],
  numbers: ['i32s', [1, -2, 3]],
  scores: ['f32s', [0.25, -0.25]],
} as const;
const matrix = { name: 'matrix', type: f32, shape: [3, 2], bytes: floats(1, 2, 3, 4, 5, 6) };
const vector = { name: 'vector', type: f32, shape: [2], bytes: floats(7, 8) };

describe('GGUF file', () => {
  it('gives its metadata and the rows of its tensors', () =>
    withGguf(ggufBytes(metadata, [matrix, vector], 64), async (file) => {
      const found = Object.fromEntries(
        [...file.metadata].map(([key, value]) => [key, ArrayBuffer.isView(value) ? [...(value as Int32Array)] : value]),
      );
      expect(found).toEqual(Object.fromEntries(Object.entries(metadata).map(([key, [, value]]) => [key, value])));
      expect(file).toMatchObject({ version: 3, alignmentBytes: 64 });
      expect(file.dataOffsetBytes % 64).toBe(0);
      expect(file.tensors.get('matrix')).toMatchObject({ shape: [3, 2], type: 'F32' });
      const rows = new Float32Array(4);
      await readRows(file.tensors.get('matrix')!, 1, 3, rows);
      expect([...rows]).toEqual([3, 4, 5, 6]);
    }));

  it('opens with a tensor of a type that cannot be read, and refuses to read that one', () =>
    withGguf(ggufBytes({}, [{ ...vector, type: iq1s }]), async (file) => {
      const reading = readRows(file.tensors.get('vector')!, 0, 1, new Float32Array(1));
      await expect(reading).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/vector.*IQ1_S.*Q4_1.*Q6_K/),
      });
    }));

  it('is damaged wherever it is cut', async () => {
    const bytes = ggufBytes(metadata, [matrix], 64);
    // The last 40 bytes are padding, which nobody needs.
    for (let length = 0; length < bytes.length - 40; length++)
      await expect(open(bytes.subarray(0, length))).rejects.toMatchObject({ code: 'BAD_WEIGHTS' });
  });

  it('opens or is refused, and nothing else, whichever byte of its header is changed', async () => {
    const bytes = ggufBytes(metadata, [matrix, vector], 64);
    for (let at = 0; at < bytes.length - 128; at++) {
      const changed = Buffer.from(bytes);
      changed[at] = changed[at]! ^ 0xff;
      await open(changed).catch((error: unknown) => expect(error).toBeInstanceOf(EngineError));
    }
  });

  it.each([
    ['a web page', Buffer.from('<!DOCTYPE html>'), 'BAD_WEIGHTS', /no GGUF file.*begins with "<!DO"/],
    ['version 1', patched(4, 1), 'UNSUPPORTED', /found version 1; supported are.*2 or 3/],
    ['a big-endian file', patched(4, 0x03000000), 'UNSUPPORTED', /found a big-endian file/],
    [
      'more tensors than there is room for',
      patched(8, 0x7fffffff),
      'BAD_WEIGHTS',
      /count of tensors: 2147483647 of at least 32 B each/,
    ],
    [
      'more metadata than there is room for',
      patched(20, 0x7fffffff),
      'BAD_WEIGHTS',
      /count of metadata: 9223372032559808521 of at least 13 B each/,
    ],
    [
      'an alignment that is no power of two',
      ggufBytes({ 'general.alignment': ['u32', 48] }),
      'BAD_WEIGHTS',
      /general\.alignment: needed a power of two, found 48/,
    ],
    [
      'rows that do not fill blocks',
      ggufBytes({}, [{ ...vector, type: q4_0 }]),
      'BAD_WEIGHTS',
      /tensor vector: rows of Q4_0 hold a multiple of 32 values, found 2/,
    ],
    ['a tensor that is there twice', ggufBytes({}, [vector, vector]), 'BAD_WEIGHTS', /tensor vector is there twice/],
    [
      'a tensor without dimensions',
      ggufBytes({}, [{ ...vector, shape: [] }]),
      'BAD_WEIGHTS',
      /tensor vector: needed 1 to 4 dimensions, found 0/,
    ],
    [
      'a shape beyond any file',
      ggufBytes({}, [{ ...vector, shape: [2 ** 40, 2 ** 40] }]),
      'BAD_WEIGHTS',
      /tensor vector: shape .* is beyond any file/,
    ],
    // Without metadata, the offset of the only tensor is the last 8 of its 54 + 8 bytes.
    [
      'an offset beyond the file',
      withOffset(2n ** 40n),
      'BAD_WEIGHTS',
      /tensor vector: needed 1099511627\d+ B, the file has \d+ B; it is truncated/,
    ],
    ['an offset beyond any file', withOffset(2n ** 63n), 'BAD_WEIGHTS', /tensor vector is 9223372036854775808, beyond/],
    [
      'data that is too short',
      ggufBytes({}, [{ ...vector, shape: [9000] }]),
      'BAD_WEIGHTS',
      /tensor vector: needed \d+ B, the file has \d+ B/,
    ],
  ])('refuses %s', async (_, bytes, code, message) => {
    await expect(open(bytes)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it.skipIf(smollm2IsMissing)('agrees with the gguf package on a real file: header and values', async () => {
    const recorded = JSON.parse(readFileSync(join(FIXTURES, 'smollm2-135m', 'gguf.json'), 'utf8'));
    const file = await openGguf(smollm2Path);
    expect(file.version).toBe(recorded.ggufVersion);
    expect(file.alignmentBytes).toBe(recorded.alignment);
    expect(file.dataOffsetBytes).toBe(recorded.dataOffset);
    expect(file.tensors.size).toBe(recorded.tensorCount);
    expect([...file.metadata.keys()].sort()).toEqual(Object.keys(recorded.metadata).sort());
    for (const [key, value] of Object.entries(recorded.metadata)) {
      if (typeof value !== 'object') expect(file.metadata.get(key)).toBe(value);
    }
    for (const name of ['tokens', 'merges', 'token_type']) {
      const { length, sha256OfLines } = recorded.metadata[`tokenizer.ggml.${name}`];
      const values = Array.from(file.metadata.get(`tokenizer.ggml.${name}`) as ArrayLike<string | number>);
      expect(values.length).toBe(length);
      expect(sha256(values.join('\n'))).toBe(sha256OfLines);
    }
    for (const { name, type, ggufShape, fileOffset, bytes, float32Sha256 } of recorded.tensors) {
      const tensor = file.tensors.get(name)!;
      expect(tensor).toMatchObject({ type, shape: ggufShape.reverse(), offsetBytes: fileOffset, sizeBytes: bytes });
      const values = new Float32Array(tensor.shape.reduce((product, size) => product * size, 1));
      await readRows(tensor, 0, tensor.shape[0]!, values);
      expect(sha256(new Uint8Array(values.buffer))).toBe(float32Sha256);
    }
    await file.close();
  });
});

function withOffset(offset: bigint): Buffer {
  const bytes = ggufBytes({}, [vector]);
  bytes.writeBigUInt64LE(offset, 54);
  return bytes;
}

/** A file with one number of its header replaced. */
function patched(at: number, value: number): Buffer {
  const bytes = ggufBytes(metadata, [matrix]);
  bytes.writeUInt32LE(value, at);
  return bytes;
}

function open(bytes: Uint8Array): Promise<void> {
  return withGguf(bytes, async () => {});
}

function withGguf(bytes: Uint8Array, use: (file: GgufFile) => Promise<void>): Promise<void> {
  return withDirectory(async (directory) => {
    const path = join(directory, 'model.gguf');
    writeFileSync(path, bytes);
    const file = await openGguf(path);
    await use(file).finally(() => file.close());
  });
}

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}
