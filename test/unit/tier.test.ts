import { describe, expect, it } from 'vitest';
import { openTiers, Tier, type TierName } from '../../engine/memory/tier.js';

describe('the account of a tier', () => {
  it('counts what is held, and remembers the most', () => {
    const tier = new Tier('cpu', 100);
    const [a, b] = [tier.reserve(60, 'a'), tier.reserve(40, 'b')];
    expect([tier.usedBytes, tier.freeBytes, tier.peakBytes]).toEqual([100, 0, 100]);
    a.release();
    expect([tier.usedBytes, tier.freeBytes, tier.peakBytes]).toEqual([40, 60, 100]);
    b.release();
    expect(tier.usedBytes).toBe(0);
  });

  it('takes a lease back once, however often it is given back', () => {
    const tier = new Tier('cpu', 100);
    const lease = tier.reserve(60, 'a');
    tier.reserve(10, 'b');
    lease.release();
    lease.release();
    expect(tier.usedBytes).toBe(10);
  });

  it.each([
    ['gpu', 'lower gpuBatchSize or the share of weights on the gpu, or raise --device-memory'],
    ['cpu', 'lower gpuBatchSize, keep more on disk, or raise --host-memory'],
    ['disk', 'free space in --offload-dir, or raise --disk-memory'],
  ] as const)('refuses on the %s what does not fit, and says what to change', (name: TierName, change) => {
    const tier = openTiers({ gpu: 100, cpu: 100, disk: 100 })[name];
    tier.reserve(70, 'something else');
    const details = { tier: name, needBytes: 31, freeBytes: 30, capacityBytes: 100 };
    const message = `${name} tier: a buffer needs 31 B, 30 B of 100 B free; ${change}`;
    expect(() => tier.reserve(31, 'a buffer')).toThrow(
      expect.objectContaining({ code: 'OUT_OF_MEMORY', message, details }),
    );
    expect([tier.usedBytes, tier.peakBytes]).toEqual([70, 70]);
    tier.reserve(30, 'what does fit');
  });
});
