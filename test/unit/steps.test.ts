import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { compareSteps, keepSteps, readSteps } from '../../activities/expectation.js';
import { keepComparison, keptHardware, machineIdentity, measuredPath, refinedHardware } from '../../cli/hardware.js';
import { makeDirectory } from '../../datasets/files.js';
import { openEngine } from '../../engine/engine.js';
import { writeStore } from '../../engine/model/store-write.js';
import type { HardwareProfile } from '../../engine/policy/hardware.js';
import { formatHardware } from '../../engine/policy/hardware-file.js';
import { namedHardware } from '../../engine/policy/profiles.js';
import { refinementOf, type StepComparison, type StepSeconds } from '../../engine/policy/steps.js';
import { totalsBetween } from '../../engine/trace.js';
import { tinyModels, tinyWeights } from '../support/tiny-models.js';

const scratch = mkdtempSync(join(tmpdir(), 'zigzag-steps-'));
beforeEach(() => vi.stubEnv('XDG_CACHE_HOME', mkdtempSync(join(scratch, 'cache-'))));
afterEach(() => vi.unstubAllEnvs());
afterAll(() => rmSync(scratch, { recursive: true }));

const steps = (products: number, attention: number, waiting: number, all: number): StepSeconds => {
  return { products, attention, waiting, all };
};
const computing: StepComparison = { predicted: steps(8, 2, 0, 10), measured: steps(9, 3, 0, 13) };
const waiting: StepComparison = { predicted: steps(3, 1, 16, 20), measured: steps(4, 1, 20, 25) };

describe('runs beside what was expected of them', () => {
  it.each<[string, StepComparison[], { computeFactor: number; ioFactor: number }]>([
    ['one that computes', [computing], { computeFactor: 12 / 10, ioFactor: 1 }],
    ['one that waits', [waiting], { computeFactor: 5 / 4, ioFactor: 25 / 20 }],
    ['both, by their time', [computing, waiting], { computeFactor: 17 / 14, ioFactor: 25 / 20 }],
    [
      'one that cannot be true, as far as is believed',
      [{ ...computing, measured: steps(90, 30, 0, 130) }],
      { computeFactor: 2, ioFactor: 1 },
    ],
  ])('refine a profile: %s', (_, runs, expected) => {
    const date = new Date('2026-11-26T12:00:00Z');
    expect(refinementOf(runs, date)).toEqual({ ...expected, runs: runs.length, date: date.toISOString() });
  });

  it('are folded into what was measured, those since then only', () => {
    expect(() => refinedHardware()).toThrow('run zigzag doctor first');
    const profile: HardwareProfile = {
      ...namedHardware('t4-208gb'),
      machine: machineIdentity(),
      measured: '2026-01-01T00:00:00.000Z',
    };
    makeDirectory(dirname(measuredPath()));
    writeFileSync(measuredPath(), formatHardware(profile));
    expect(() => refinedHardware()).toThrow('nothing to refine by');
    keepComparison(computing);
    refinedHardware();
    expect(keptHardware()?.refined).toMatchObject({ computeFactor: 1.2, ioFactor: 1, runs: 1 });
    writeFileSync(measuredPath(), formatHardware({ ...profile, measured: '2999-01-01T00:00:00.000Z' }));
    expect(() => refinedHardware()).toThrow('nothing to refine by');
  });

  it('are what the engine counted, kept with the run and summed up', async () => {
    const model = join(scratch, 'model');
    await writeStore(tinyWeights(tinyModels.llama!), model, { format: 'fp32' });
    const engine = await openEngine({ model, backend: 'reference' });
    const before = await engine.usage();
    const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
    await engine.run([{ kind: 'generate', id: '', prompt: [9, 8, 7], maxNewTokens: 4, stop: [], sampling }]);
    const totals = totalsBetween(before, await engine.usage());
    await engine.close();
    const settings = { device: 'cpu', policy: 'auto', backend: 'reference' } as const;
    const expecting = {
      profile: { ...namedHardware('t4-208gb'), computeTier: 'cpu' },
      settings,
      info: engine.info,
    } as const;
    expect(compareSteps(expecting, 0, totals, 1)).toBeUndefined();
    const compared = compareSteps(expecting, 1, totals, 1)!;
    expect(compared.measured.all).toBe(1);
    expect(compared.measured.products).toBeGreaterThan(0);
    expect(compared.measured.attention).toBeGreaterThan(0);
    expect(compared.predicted.products).toBeGreaterThan(0);
    const refined = { ...expecting, profile: { ...expecting.profile, refined: refinementOf([computing], new Date()) } };
    expect(compareSteps(refined, 1, totals, 1)).toEqual(compared);

    expect(readSteps(scratch)).toBeNull();
    keepSteps(scratch, 0, computing);
    keepSteps(scratch, 1, waiting);
    expect(readSteps(scratch)).toEqual({ shards: 2, predicted: steps(11, 3, 16, 30), measured: steps(13, 4, 20, 38) });
  });
});
