import { describe, expect, it } from 'vitest';
import { float32Matrix } from '../../engine/memory/packed.js';
import type { WeightPart } from '../../engine/memory/placement.js';
import { type LoadedPart, WeightStream } from '../../engine/memory/weight-stream.js';

const part = (layer: number, rowStart: number, tensor: WeightPart['tensor'] = 'up'): WeightPart => ({
  layer,
  tensor,
  rowStart,
  rowEnd: rowStart + 64,
  home: 'disk',
});
const PARTS = [part(1, 0), part(1, 64), part(1, 0, 'down'), part(2, 0), part(2, 64), part(2, 0, 'down')];
const labels = PARTS.map(({ layer, tensor, rowStart }) => `${layer} ${tensor} ${rowStart}`);

/** Reads that end when they are told to, or in the next turn. */
function stream(numBuffers: number, { overlap = true, failing = -1, held = false } = {}) {
  const begun: string[] = [];
  const inUse = new Set<Uint8Array>();
  const settle: (() => void)[] = [];
  let most = 0;
  const load = async ({ layer, tensor, rowStart }: WeightPart, buffer: Uint8Array) => {
    expect(inUse.has(buffer)).toBe(false);
    inUse.add(buffer);
    most = Math.max(most, inUse.size);
    const index = begun.push(`${layer} ${tensor} ${rowStart}`) - 1;
    await new Promise<void>((resolve) => (held ? settle.push(resolve) : setImmediate(resolve)));
    if (index === failing) {
      inUse.delete(buffer);
      throw new Error('the disk is gone');
    }
    return float32Matrix(new Float32Array(buffer.buffer), [64, 1]);
  };
  const buffers = Array.from({ length: numBuffers }, () => new Uint8Array(256));
  const weights = new WeightStream(PARTS, load, { buffers, overlap });
  const take = async (index: number): Promise<LoadedPart> => {
    const { layer, tensor } = PARTS[index % PARTS.length]!;
    const loaded = await weights.take(layer, tensor);
    expect(loaded).toMatchObject(PARTS[index % PARTS.length]!);
    const buffer = buffers.find(({ buffer }) => 'data' in loaded.matrix && buffer === loaded.matrix.data.buffer)!;
    return {
      ...loaded,
      release() {
        inUse.delete(buffer);
        loaded.release();
      },
    };
  };
  return { weights, begun, take, settle, most: () => most, forget: () => inUse.clear() };
}

describe('a stream of weights', () => {
  it('gives the parts in the order of use, round after round', async () => {
    const { take, weights, begun } = stream(3);
    weights.fill();
    for (let index = 0; index < 15; index++) (await take(index)).release();
    expect(begun.slice(0, 15)).toEqual([...labels, ...labels, ...labels].slice(0, 15));
    await weights.close();
  });

  it('reads ahead as far as buffers go, and never into one that is in use', async () => {
    const { take, weights, begun, most } = stream(3);
    weights.fill();
    expect(begun).toEqual(labels.slice(0, 3));
    const [first, second] = [await take(0), await take(1)];
    expect(begun.length).toBe(3);
    first.release();
    expect(begun).toEqual(labels.slice(0, 4));
    second.release();
    expect(begun).toEqual(labels.slice(0, 5));
    for (let index = 2; index < 20; index++) (await take(index)).release();
    expect(most()).toBe(3);
    await weights.close();
  });

  it('reads nothing ahead in the serial loop', async () => {
    const { take, weights, begun } = stream(3, { overlap: false });
    weights.fill();
    expect(begun).toEqual([]);
    for (let index = 0; index < 8; index++) {
      const taken = await take(index);
      expect(begun.length).toBe(index + 1);
      taken.release();
    }
    await weights.close();
  });

  it('counts the parts of a tensor', () => {
    const { weights } = stream(2);
    expect([weights.count(1, 'up'), weights.count(2, 'down'), weights.count(2, 'gate')]).toEqual([2, 1, 0]);
  });

  it('hands the error of a read to whoever takes that part, not before', async () => {
    const { take, weights } = stream(3, { failing: 1 });
    weights.fill();
    (await take(0)).release();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await expect(take(1)).rejects.toThrow('the disk is gone');
    await weights.close();
  });

  it('begins a sweep anew after one that was given up, an error included', async () => {
    const { take, weights, begun, forget } = stream(3, { failing: 2 });
    weights.fill();
    for (const index of [0, 1]) (await take(index)).release();
    await expect(take(2)).rejects.toThrow('the disk is gone');
    await weights.rewind();
    forget();
    const before = begun.length;
    weights.fill();
    expect(begun.slice(before)).toEqual(labels.slice(0, 3));
    for (let index = 0; index < 12; index++) (await take(index)).release();
    await weights.close();
  });

  it('waits for the reads under way before it is closed, and begins no other', async () => {
    const { weights, begun, settle } = stream(2, { held: true });
    weights.fill();
    let closed = false;
    const closing = weights.close().then(() => {
      closed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(closed).toBe(false);
    for (const resolve of settle) resolve();
    await closing;
    weights.fill();
    expect(begun.length).toBe(2);
  });

  it('refuses to give another part than the one whose turn it is', async () => {
    const { weights } = stream(2);
    await expect(weights.take(2, 'down')).rejects.toThrow('the stream is at 1.up, and 2.down was asked for');
    await weights.close();
  });
});
