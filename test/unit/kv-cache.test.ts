import { describe, expect, it } from 'vitest';
import { KV_BLOCK_TOKENS, MASKED } from '../../engine/backends/backend.js';
import { KvCache, lengthMask } from '../../engine/memory/kv-cache.js';
import { Tier } from '../../engine/memory/tier.js';
import type { ModelConfig } from '../../engine/model/config.js';

const tier = () => new Tier('cpu', 2 ** 30);
const config = { numLayers: 2, numHeads: 2, numKvHeads: 1, headDim: 2 } as ModelConfig;

/** Row r has keys [r, r + 0.5] and values [-r, -r - 0.5]. */
function projection(rows: number) {
  const queryKey = Float32Array.from({ length: rows * 6 }, (_, i) =>
    i % 6 < 4 ? 99 : Math.floor(i / 6) + (i % 2) / 2,
  );
  const value = Float32Array.from({ length: rows * 2 }, (_, i) => -Math.floor(i / 2) - (i % 2) / 2);
  return { queryKey, value };
}

describe('KvCache', () => {
  it('puts each position into its block, keys without the queries beside them', () => {
    const cache = new KvCache(config, 2, tier());
    cache.writeRows(1, 1, 0, projection(KV_BLOCK_TOKENS + 3), 0, KV_BLOCK_TOKENS + 3);
    const [first, second] = cache.blocks(1, KV_BLOCK_TOKENS + 3);
    const slotSize = KV_BLOCK_TOKENS * 2;
    expect([...first!.key.subarray(slotSize, slotSize + 4)]).toEqual([0, 0.5, 1, 1.5]);
    expect([...second!.key.subarray(slotSize, slotSize + 6)]).toEqual([32, 32.5, 33, 33.5, 34, 34.5]);
    expect([...second!.value.subarray(slotSize + 2, slotSize + 4)]).toEqual([-33, -33.5]);
    expect(first!.key.subarray(0, slotSize).every((value) => value === 0)).toBe(true);
  });

  it('moves a sequence between slots on every layer', () => {
    const cache = new KvCache(config, 3, tier());
    for (const layer of [0, 1]) cache.writeRows(layer, 2, 0, projection(70), 0, 70);
    cache.move(2, 0, 70);
    for (const layer of [0, 1]) {
      for (const { key, value } of cache.blocks(layer, 70)) {
        const size = KV_BLOCK_TOKENS * 2;
        expect(key.subarray(0, size)).toEqual(key.subarray(2 * size, 3 * size));
        expect(value.subarray(0, size)).toEqual(value.subarray(2 * size, 3 * size));
      }
    }
  });

  it('gives blocks back when no sequence reaches them', () => {
    const account = tier();
    const cache = new KvCache(config, 1, account);
    cache.writeRows(0, 0, 0, projection(130), 0, 130);
    const held = account.usedBytes;
    cache.trim(KV_BLOCK_TOKENS);
    const [, second] = cache.blocks(0, 2 * KV_BLOCK_TOKENS);
    expect(second!.key.every((value) => value === 0)).toBe(true);
    expect(account.usedBytes).toBeLessThan(held);
    cache.trim(0);
    expect(account.usedBytes).toBe(0);
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
});
