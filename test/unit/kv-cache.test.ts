import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { KV_BLOCK_TOKENS, MASKED } from '../../engine/backends/backend.js';
import type { KvLayer } from '../../engine/memory/kv-cache.js';
import { lengthMask, placeSlots, putRows } from '../../engine/memory/kv-layout.js';
import { KvMemory } from '../../engine/memory/kv-memory.js';
import { openKvCaches } from '../../engine/memory/kv-tiers.js';
import { openTiers, Tier, type Tiers } from '../../engine/memory/tier.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { residentPolicy } from '../../engine/policy/policy.js';
import { Trace } from '../../engine/trace.js';

const scratch = mkdtempSync(join(tmpdir(), 'kv-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const config = { numLayers: 2, numHeads: 2, numKvHeads: 1, headDim: 2 } as ModelConfig;
const SLOT_VALUES = KV_BLOCK_TOKENS * 2;

/** Row r has keys [first + r, first + r + 0.5], and as values the same below zero. */
function projection(rows: number, first = 0) {
  const queryKey = Float32Array.from({ length: rows * 6 }, (_, i) =>
    i % 6 < 4 ? 99 : first + Math.floor(i / 6) + (i % 2) / 2,
  );
  const value = Float32Array.from({ length: rows * 2 }, (_, i) => -first - Math.floor(i / 2) - (i % 2) / 2);
  return { queryKey, value };
}

describe('blocks of the KV cache', () => {
  it('hold each position in its block, keys without the queries beside them', async () => {
    const memory = new KvMemory(config, 2, new Tier('cpu', 2 ** 30));
    await memory.grow(2);
    const rows = KV_BLOCK_TOKENS + 3;
    putRows(config, memory.blocks(1, 2), projection(rows), { slot: 1, position: 0, start: 0, end: rows });
    const [first, second] = memory.blocks(1, 2);
    expect([...first!.key.subarray(SLOT_VALUES, SLOT_VALUES + 4)]).toEqual([0, 0.5, 1, 1.5]);
    expect([...second!.key.subarray(SLOT_VALUES, SLOT_VALUES + 6)]).toEqual([32, 32.5, 33, 33.5, 34, 34.5]);
    expect([...second!.value.subarray(SLOT_VALUES + 2, SLOT_VALUES + 4)]).toEqual([-33, -33.5]);
    expect(first!.key.subarray(0, SLOT_VALUES).every((value) => value === 0)).toBe(true);
  });
});

describe('lengthMask', () => {
  it('masks behind the end of each sequence, up to whole blocks of the longest', () => {
    const mask = lengthMask([2, KV_BLOCK_TOKENS + 1]);
    expect(mask.length).toBe(2 * 2 * KV_BLOCK_TOKENS);
    const open = [0, 1].map((slot) => mask.subarray(slot * 64, slot * 64 + 64).filter((value) => value === 0).length);
    expect(open).toEqual([2, KV_BLOCK_TOKENS + 1]);
    expect(mask[2]).toBe(Math.fround(MASKED));
  });

  it('masks before the window of each sequence, which may be shorter', () => {
    const mask = lengthMask([2, KV_BLOCK_TOKENS + 1], 3);
    const open = [0, 1].map((slot) =>
      [...mask.subarray(slot * 64, slot * 64 + 64).keys()].filter((at) => mask[slot * 64 + at] === 0),
    );
    expect(open).toEqual([
      [0, 1],
      [KV_BLOCK_TOKENS - 2, KV_BLOCK_TOKENS - 1, KV_BLOCK_TOKENS],
    ]);
  });
});

describe('placeSlots', () => {
  it.each([
    ['a third on disk', { gpu: 0, cpu: 2 / 3, disk: 1 / 3 }, 'cpu', { resident: 4, host: 4, slots: 6 }],
    ['one sixth on the gpu', { gpu: 1 / 6, cpu: 1 / 2, disk: 1 / 3 }, 'gpu', { resident: 1, host: 4, slots: 6 }],
    ['less than half a slot on disk', { gpu: 0.95, cpu: 0, disk: 0.05 }, 'gpu', { resident: 6, host: 6, slots: 6 }],
  ] as const)('%s', (_, fractions, computeTier, expected) => {
    expect(placeSlots(fractions, 6, computeTier)).toEqual(expected);
  });
});

/** Two slots live where attention computes, two on the cpu, two on disk. */
const mixed = { gpu: 1 / 3, cpu: 1 / 3, disk: 1 / 3 };
const unbounded = { gpu: 2 ** 30, cpu: 2 ** 30, disk: 2 ** 30 };

function openMixed({ overlap = true, tiers = openTiers(unbounded), trace = new Trace(), shape = config } = {}) {
  const sizes = { gpuBatchSize: 6, numGpuBatches: 1, schedule: 'continuous', overlap } as const;
  const memory = { tiers, computeTier: 'gpu', directory: scratch } as const;
  const kv = openKvCaches(shape, { ...residentPolicy(sizes, 'gpu'), kv: mixed }, memory, trace);
  return { kv, cache: kv.caches[0]!, tiers, trace };
}

/** Keys of the first positions of a slot, as attention would find them. */
function keysOf(layer: KvLayer, slot: number, length: number): number[] {
  const { firstSlot, blocks } = layer.groups(6, length).find(({ endSlot }) => slot < endSlot)!;
  const keys = blocks.flatMap(({ key }) => [
    ...key.subarray((slot - firstSlot) * SLOT_VALUES, (slot - firstSlot + 1) * SLOT_VALUES),
  ]);
  return keys.slice(0, 2 * length);
}

function expectedKeys(slot: number, layer: number, length: number): number[] {
  return Array.from({ length: 2 * length }, (_, i) => first(slot, layer) + Math.floor(i / 2) + (i % 2) / 2);
}

const first = (slot: number, layer: number) => 10_000 * slot + 1000 * layer;
const LENGTHS = [40, 3, 64, 33, 70, 32];

/** Prompts of six sequences on both layers. */
async function fill({ kv, cache }: ReturnType<typeof openMixed>) {
  await cache.grow(6, 70);
  for (const layer of [0, 1]) {
    const staged = await cache.stage(layer, [], 6);
    LENGTHS.forEach((length, slot) => {
      staged.write(projection(length, first(slot, layer)), { slot, position: 0, start: 0, end: length });
    });
    await staged.store();
  }
  await kv.drain();
}

describe.each([true, false])('a KV cache on three tiers, overlap %s', (overlap) => {
  it('gives back what was written, wherever the slot lives', async () => {
    const opened = openMixed({ overlap });
    await fill(opened);
    for (const layer of [0, 1]) {
      const staged = await opened.cache.stage(layer, LENGTHS, 6);
      LENGTHS.forEach((length, slot) => {
        expect(keysOf(staged, slot, length)).toEqual(expectedKeys(slot, layer, length));
      });
    }
    await opened.kv.close();
  });

  it('keeps rows that are added one by one, at the end of a block and behind it', async () => {
    const opened = openMixed({ overlap });
    await fill(opened);
    for (const added of [0, 1]) {
      await opened.cache.grow(6, 72);
      for (const layer of [0, 1]) {
        const lengths = LENGTHS.map((length) => length + added);
        const staged = await opened.cache.stage(layer, lengths, 6);
        lengths.forEach((length, slot) => {
          const row = projection(1, first(slot, layer) + length);
          staged.write(row, { slot, position: length, start: 0, end: 1 });
        });
        await staged.store();
      }
      await opened.kv.drain();
    }
    const grown = LENGTHS.map((length) => length + 2);
    const staged = await opened.cache.stage(1, grown, 6);
    grown.forEach((length, slot) => {
      expect(keysOf(staged, slot, length)).toEqual(expectedKeys(slot, 1, length));
    });
    await opened.kv.close();
  });

  it.each([
    ['from disk to where attention computes', 5, 0],
    ['from disk to the cpu', 4, 2],
    ['from disk to disk', 5, 4],
    ['from the cpu to the cpu', 3, 2],
    ['from the cpu to where attention computes', 3, 1],
    ['where attention computes', 1, 0],
  ])('moves a sequence %s', async (_, from, to) => {
    const opened = openMixed({ overlap });
    await fill(opened);
    await opened.cache.move(from, to, LENGTHS[from]!);
    const lengths = LENGTHS.with(to, LENGTHS[from]!);
    for (const layer of [0, 1]) {
      const staged = await opened.cache.stage(layer, lengths, 6);
      for (let slot = 0; slot < 6; slot++) {
        const expected = expectedKeys(slot === to ? from : slot, layer, lengths[slot]!);
        expect(keysOf(staged, slot, lengths[slot]!)).toEqual(expected);
      }
    }
    await opened.kv.close();
  });
});

describe('the accounts of a KV cache on three tiers', () => {
  it('hold every slot where it lives, and shrink with the longest sequence and the last slot', async () => {
    const opened = openMixed();
    const { kv, cache, tiers } = opened;
    await fill(opened);
    const slotBytes = 3 * 2 * 2 * SLOT_VALUES * 4;
    const held = () => [tiers.cpu.usedBytes, tiers.disk.usedBytes];
    // On disk each layer's keys and values begin at a block of the file.
    expect(held()).toEqual([2 * slotBytes, 3 * 2 * 2 * 4096]);
    expect(tiers.gpu.usedBytes).toBeGreaterThan(2 * slotBytes);
    await cache.trim(6, 40);
    expect(held()).toEqual([(2 * slotBytes * 2) / 3, 2 * 2 * 2 * 4096]);
    await cache.trim(4, 40);
    expect(held()).toEqual([(2 * slotBytes * 2) / 3, 0]);
    await kv.close();
    expect([...held(), tiers.gpu.usedBytes]).toEqual([0, 0, 0]);
  });

  it('are empty after a close in the middle of a sweep', async () => {
    const opened = openMixed();
    const { kv, cache, tiers } = opened;
    await fill(opened);
    const staged = await cache.stage(0, LENGTHS, 6);
    staged.write(projection(1), { slot: 5, position: 32, start: 0, end: 1 });
    void staged.store();
    void cache.stage(1, LENGTHS, 6);
    await kv.close();
    expect(Object.values(tiers).map(({ usedBytes }) => usedBytes)).toEqual([0, 0, 0]);
  });

  it('count the bytes that move, both ways', async () => {
    const opened = openMixed();
    await fill(opened);
    const slotBlock = 2 * SLOT_VALUES * 4;
    // Blocks of slots 2 to 5 on two layers: 2 + 2 + 3 + 1.
    expect(opened.trace.totals().bytesMoved.kvWrite).toBe(2 * 8 * slotBlock);
    await opened.cache.stage(0, LENGTHS, 6);
    expect(opened.trace.totals().bytesMoved.kvRead).toBe(8 * slotBlock);
    await opened.kv.close();
  });

  it.each([
    ['gpu', { ...unbounded, gpu: 4096 }],
    ['cpu', { ...unbounded, cpu: 4096 }],
    ['disk', { ...unbounded, disk: 4096 }],
  ] as const)('refuse what a full %s tier cannot hold, before anything is computed', async (tier, capacity) => {
    const tiers: Tiers = openTiers(capacity);
    const { kv, cache } = openMixed({ tiers });
    await expect(cache.grow(6, 70)).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', details: { tier } });
    await kv.close();
    expect(Object.values(tiers).map(({ usedBytes }) => usedBytes)).toEqual([0, 0, 0]);
  });

  it('leave no file behind, not even while the cache is open', async () => {
    const opened = openMixed();
    await fill(opened);
    expect(readdirSync(scratch)).toEqual([]);
    await opened.kv.close();
  });
});

describe('slots whose parts are whole blocks of the file', () => {
  it('go past the page cache and come back the same', async () => {
    const shape = { ...config, numKvHeads: 2, headDim: 16 } as ModelConfig;
    const opened = openMixed({ shape });
    const width = (2 + 2) * 16;
    const rows = 40;
    const queryKey = Float32Array.from({ length: rows * width }, (_, i) => i);
    const value = Float32Array.from({ length: rows * 32 }, (_, i) => -i);
    await opened.cache.grow(6, rows);
    const staged = await opened.cache.stage(1, [], 6);
    for (let slot = 0; slot < 6; slot++) {
      staged.write({ queryKey, value }, { slot, position: 0, start: 0, end: rows });
    }
    await staged.store();
    await opened.kv.drain();
    const [resident, moved] = (await opened.cache.stage(1, Array(6).fill(rows), 6)).groups(6, rows);
    const size = 2 * 16 * KV_BLOCK_TOKENS;
    for (const [block, rowsHeld] of [
      [0, 32],
      [1, 8],
    ] as const) {
      for (const part of ['key', 'value'] as const) {
        const expected = heads(resident!.blocks[block]![part].subarray(0, size), rowsHeld);
        expect(expected.some((number) => number !== 0)).toBe(true);
        for (let slot = 0; slot < 4; slot++) {
          const found = moved!.blocks[block]![part].subarray(slot * size, (slot + 1) * size);
          expect(heads(found, rowsHeld)).toEqual(expected);
        }
      }
    }
    await opened.kv.close();
  });
});

/** The first rows of each of two heads: behind them a block may hold anything. */
function heads(part: Float32Array, rows: number): number[] {
  const head = 16 * KV_BLOCK_TOKENS;
  return [...part.subarray(0, rows * 16), ...part.subarray(head, head + rows * 16)];
}
