import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { EngineError } from '../../engine/errors.js';
import { measureHardware } from '../../engine/measure.js';
import { meanCurve } from '../../engine/measure-compute.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { formatHardware, parseHardware } from '../../engine/policy/hardware-file.js';
import { openSolver } from '../../engine/policy/highs.js';
import { namedHardware } from '../../engine/policy/profiles.js';
import { searchPolicy } from '../../engine/policy/search.js';
import { plays, rehearse } from '../../engine/rehearsal.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-measure-'));
afterAll(() => rmSync(directory, { recursive: true }));
const machine = { processor: 'a test', cores: 2, memoryBytes: 4e9 };

describe('measuring this machine', () => {
  it('gives a profile that can be kept, read and planned with, and leaves no file', { timeout: 300_000 }, async () => {
    const steps: string[] = [];
    const profile = await measureHardware({
      machine,
      directory,
      milliseconds: 1,
      sequences: 4,
      onProgress: (done, total, what) => steps.push(`${done}/${total} ${what}`),
    });
    expect(parseHardware(formatHardware(profile), 'x')).toEqual(profile);
    expect(profile.machine).toEqual(machine);
    expect(readdirSync(directory)).toEqual([]);
    const total = steps.length - 1;
    expect(steps.at(-1)).toBe(`${total}/${total} done`);
    // More rows share one read of the matrix.
    for (const rates of Object.values(profile.products)) {
      for (const { curve } of rates) expect(curve.at(-1)![1]).toBeGreaterThan(curve[0]![1]);
    }
    for (const { products, partSeconds, attention, disk } of profile.rehearsed!) {
      for (const factor of [products, attention, disk]) expect(factor).toBeGreaterThan(0);
      expect(partSeconds).toBeLessThan(0.1);
    }
    const { best } = searchPolicy(
      {
        config: namedShape('llama-1.1b'),
        profile,
        workload: { numSequences: 64, promptTokens: 128, newTokens: 16, contextTokens: 144 },
        overlap: true,
        capacityBytes: { gpu: 0, cpu: 550e6, disk: 10e9 },
        weightTypes: ['float16'],
        kvBits: [32],
        schedules: ['continuous', 'block'],
      },
      await openSolver(),
    );
    expect(best.predicted.generationThroughput).toBeGreaterThan(0);
  });

  it('takes the mean of times, not of rates, over several passes', () => {
    const passes = [
      [
        [1, 10],
        [8, 100],
      ],
      [
        [1, 30],
        [8, 100],
      ],
    ] as const;
    // A tenth and a thirtieth of a second: two operations in 4/30 s.
    expect(meanCurve(passes)).toEqual([
      [1, expect.closeTo(15, 9)],
      [8, expect.closeTo(100, 9)],
    ]);
  });

  it('stops between two measurements once it is cancelled', async () => {
    const controller = new AbortController();
    const onProgress = () => controller.abort();
    const measuring = measureHardware({ machine, directory, milliseconds: 1, signal: controller.signal, onProgress });
    await expect(measuring).rejects.toThrow(EngineError);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('stops within a rehearsal once it is cancelled, and leaves nothing of it', { timeout: 60_000 }, async () => {
    const profile = namedHardware('t4-208gb');
    const signal = AbortSignal.timeout(100);
    const rehearsing = rehearse(profile, plays(4)[1]!, { threads: 2, directory, signal });
    await expect(rehearsing).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(readdirSync(directory)).toEqual([]);
  });
});
