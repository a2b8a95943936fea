import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { EngineError } from '../../engine/errors.js';
import { alignedBuffer, alignedRange, BLOCK_BYTES, viewOf } from '../../engine/memory/aligned-buffer.js';
import { openDirect } from '../../engine/memory/direct-file.js';
import { Slots } from '../../engine/memory/slots.js';

const directory = mkdtempSync(join(tmpdir(), 'direct-'));
afterAll(() => rmSync(directory, { recursive: true }));

const content = Uint8Array.from({ length: 20 * BLOCK_BYTES + 100 }, (_, i) => (i * 31 + (i >> 8)) & 255);
const path = join(directory, 'content.bin');
writeFileSync(path, content);

// Not every file system takes O_DIRECT; the bytes must be right either way.
const takesDirect = await isDirect();

describe.each([
  ['past the page cache', {}],
  ['through the page cache', { direct: false }],
  ['in small pieces, one at a time', { pieceBytes: BLOCK_BYTES, inFlight: 1 }],
])('a file read %s', (_, options) => {
  it.each([
    ['whole blocks', BLOCK_BYTES, 3 * BLOCK_BYTES],
    ['an unaligned range', 5, 9000],
    ['one byte', 40000, 1],
    ['nothing', 0, 0],
    ['up to the end', 19 * BLOCK_BYTES, BLOCK_BYTES + 100],
  ])('gives the bytes of %s', async (_what, offset, bytes) => {
    const file = openDirect(path, 'read', options);
    const into = viewOf(alignedBuffer(bytes, file)).subarray(0, bytes);
    await file.read(into, offset, 'tensor');
    expect(Buffer.compare(into, content.subarray(offset, offset + bytes))).toBe(0);
    await file.close();
  });

  it('answers many reads at once', async () => {
    const file = openDirect(path, 'read', options);
    const buffer = viewOf(alignedBuffer(20 * BLOCK_BYTES, file));
    const reads = Array.from({ length: 20 }, (_one, i) => {
      const start = i * BLOCK_BYTES;
      return file.read(buffer.subarray(start, start + BLOCK_BYTES), start, `block ${i}`);
    });
    await Promise.all(reads);
    expect(Buffer.compare(buffer, content.subarray(0, buffer.length))).toBe(0);
    await file.close();
  });

  it('says where it ends if it is too short', async () => {
    const file = openDirect(path, 'read', options);
    const into = viewOf(alignedBuffer(4 * BLOCK_BYTES, file));
    const error = await failure(file.read(into, 18 * BLOCK_BYTES, 'layer 3 qkv'));
    expect(error).toMatchObject({ code: 'BAD_WEIGHTS' });
    expect(error.message).toContain(`${path}: layer 3 qkv: needed ${4 * BLOCK_BYTES} B`);
    await file.close();
  });

  it('may end within the last block where the needed bytes are there', async () => {
    const file = openDirect(path, 'read', options);
    const { start, length, skip } = alignedRange(19 * BLOCK_BYTES + 50, BLOCK_BYTES + 50);
    const into = viewOf(alignedBuffer(length, file));
    await file.read(into, start, 'tail', { neededBytes: skip + BLOCK_BYTES + 50 });
    const found = into.subarray(skip, skip + BLOCK_BYTES + 50);
    expect(Buffer.compare(found, content.subarray(19 * BLOCK_BYTES + 50))).toBe(0);
    await file.close();
  });

  it('keeps what is written to it, aligned or not', async () => {
    const written = join(directory, 'written.bin');
    const file = openDirect(written, 'create', options);
    await file.reserve(8 * BLOCK_BYTES);
    expect(statSync(written).size).toBe(8 * BLOCK_BYTES);
    const from = viewOf(alignedBuffer(4 * BLOCK_BYTES, file));
    from.set(content.subarray(0, from.length));
    await file.write(from, 2 * BLOCK_BYTES);
    await file.write(from.subarray(7, 107), 10);
    const into = viewOf(alignedBuffer(8 * BLOCK_BYTES, file));
    await file.read(into, 0, 'what was written');
    await file.sync();
    await file.close();
    const expected = new Uint8Array(8 * BLOCK_BYTES);
    expected.set(from, 2 * BLOCK_BYTES);
    expected.set(from.subarray(7, 107), 10);
    expect(Buffer.compare(into, expected)).toBe(0);
    expect(Buffer.compare(readFileSync(written), expected)).toBe(0);
  });
});

describe('a file', () => {
  it.skipIf(!takesDirect)(
    'is read past the page cache where range and address are aligned, and only there',
    async () => {
      const file = openDirect(path, 'read');
      const { buffer, byteOffset } = alignedBuffer(4 * BLOCK_BYTES, file);
      const before = file.counts();
      await file.read(new Uint8Array(buffer, byteOffset, 2 * BLOCK_BYTES), 0, 'aligned');
      expect(file.counts()).toEqual({ ...before, directBytes: before.directBytes + 2 * BLOCK_BYTES });
      await file.read(new Uint8Array(buffer, byteOffset + 1, BLOCK_BYTES), 0, 'unaligned address');
      await file.read(new Uint8Array(buffer, byteOffset, 100), 0, 'unaligned length');
      expect(file.counts().ordinaryBytes).toBe(before.ordinaryBytes + BLOCK_BYTES + 100);
      await file.close();
    },
  );

  it('of another kind of file system is read all the same', async () => {
    if (!existsSync('/proc/version')) return;
    const file = openDirect('/proc/version', 'read');
    const into = new Uint8Array(5);
    await file.read(into, 0, 'version');
    expect([file.direct, Buffer.from(into).toString()]).toEqual([false, 'Linux']);
    await file.close();
  });

  it('that is not there is named', () => {
    const missing = join(directory, 'missing.bin');
    expect(() => openDirect(missing, 'read')).toThrow(`${missing}: cannot be opened (ENOENT)`);
  });

  it('is refused the space that its disk has not', async () => {
    const file = openDirect(join(directory, 'huge.bin'), 'create');
    const error = await failure(file.reserve(2 ** 60));
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY', details: { tier: 'disk' } });
    expect(error.details.needBytes).toBeGreaterThan(error.details.freeBytes as number);
    await file.close();
    expect(statSync(join(directory, 'huge.bin')).size).toBe(BLOCK_BYTES);
  });

  it.skipIf(!existsSync('/dev/full'))('on a full disk says how much it needed and how much is free', async () => {
    const file = openDirect('/dev/full', 'update');
    const error = await failure(file.write(new Uint8Array(10000), 0));
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY', details: { tier: 'disk', needBytes: 10000 } });
    expect(error.details.freeBytes).toBeTypeOf('number');
    await file.close();
  });

  it('that shrinks while it is open is noticed', async () => {
    const shrinking = join(directory, 'shrinking.bin');
    writeFileSync(shrinking, content);
    const file = openDirect(shrinking, 'read');
    truncateSync(shrinking, 3 * BLOCK_BYTES);
    const into = viewOf(alignedBuffer(4 * BLOCK_BYTES, file));
    expect(await failure(file.read(into, 0, 'all'))).toMatchObject({ code: 'BAD_WEIGHTS' });
    await file.close();
  });

  it('waits for its reads when it is closed, and takes none after', async () => {
    const file = openDirect(path, 'read');
    const into = new Uint8Array(50000);
    const reading = file.read(into, 0, 'all');
    await file.close();
    await reading;
    expect(Buffer.compare(into, content.subarray(0, 50000))).toBe(0);
    await expect(file.read(into, 0, 'all')).rejects.toThrow('is closed');
  });
});

it.each([
  ['a block', 0, BLOCK_BYTES, { start: 0, length: BLOCK_BYTES, skip: 0 }],
  ['within a block', 10, 20, { start: 0, length: BLOCK_BYTES, skip: 10 }],
  ['over the border of two', 4090, 10, { start: 0, length: 2 * BLOCK_BYTES, skip: 4090 }],
  ['the end of one block and a whole one', 4095, 4097, { start: 0, length: 2 * BLOCK_BYTES, skip: 4095 }],
  ['beyond 4 GiB', 2 ** 33 + 1, 1, { start: 2 ** 33, length: BLOCK_BYTES, skip: 1 }],
])('the blocks around a range hold it: %s', (_, offset, bytes, expected) => {
  expect(alignedRange(offset, bytes)).toEqual(expected);
});

it('slots are never more than they are, and are taken in order', async () => {
  const slots = new Slots(2);
  let [running, most] = [0, 0];
  const order: number[] = [];
  await Promise.all(
    Array.from({ length: 7 }, (_, i) =>
      slots
        .run(async () => {
          most = Math.max(most, ++running);
          order.push(i);
          await new Promise((resolve) => setTimeout(resolve, i % 3));
          running--;
          if (i === 3) throw new Error('one fails');
        })
        .catch(() => undefined),
    ),
  );
  await slots.idle();
  expect({ most, order, running }).toEqual({ most: 2, order: [0, 1, 2, 3, 4, 5, 6], running: 0 });
});

async function isDirect(): Promise<boolean> {
  const file = openDirect(path, 'read');
  const { direct } = file;
  await file.close();
  return direct;
}

async function failure(promise: Promise<unknown>): Promise<EngineError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(EngineError);
  return error as EngineError;
}

it('what is urgent takes a slot before what waits, and none before its turn', async () => {
  const slots = new Slots(1);
  const order: string[] = [];
  const enter = (name: string, isUrgent = false) =>
    slots.run(async () => {
      order.push(name);
    }, isUrgent);
  await Promise.all([enter('first'), enter('second'), enter('third'), enter('urgent', true), enter('next', true)]);
  expect(order).toEqual(['first', 'urgent', 'next', 'second', 'third']);
});
