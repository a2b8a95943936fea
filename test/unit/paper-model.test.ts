/**
 * Expected values: FlexGen's published cost model (experimental/cost_model.py at 004ffef), run with the constants it ships, and
 * the policies and measurements of the paper (arXiv 2303.06865v2, Tables 2, 15 and 24).
 */
import { describe, expect, it } from 'vitest';
import type { Fractions } from '../../engine/memory/placement.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { openSolver } from '../../engine/policy/highs.js';
import {
  type PaperCase,
  paperLayerSeconds,
  paperProblem,
  paperT4,
  paperT4WithItsDisk,
  paperThroughput,
} from '../../engine/policy/paper-model.js';
import { searchPaper } from '../../engine/policy/paper-search.js';
import {
  excessBytes,
  neededBytes,
  type PlacedFractions,
  solvePlacement,
  sweepSeconds,
} from '../../engine/policy/placement-program.js';

const solve = await openSolver();
const GiB = 2 ** 30;

/** As FlexGen's --percent: weights, KV cache and activations, each on gpu and cpu; the rest on disk. */
function percent(...[wg, wc, cg, cc, hg, hc]: [number, number, number, number, number, number]): PlacedFractions {
  const on = (gpu: number, cpu: number): Fractions => ({
    gpu: gpu / 100,
    cpu: cpu / 100,
    disk: (100 - gpu - cpu) / 100,
  });
  return { weights: on(wg, wc), kv: on(cg, cc), activations: on(hg, hc) };
}

const released = (model: string): PaperCase => ({
  config: namedShape(model),
  machine: paperT4,
  form: 'released',
  promptLen: 512,
  genLen: 32,
});

const block = (gpuBatchSize: number, numGpuBatches: number) => ({ gpuBatchSize, numGpuBatches });
const opt30b = { block: block(48, 3), fractions: percent(20, 80, 0, 100, 0, 100) };
const opt175b = { block: block(32, 8), fractions: percent(0, 50, 0, 0, 0, 100) };

describe("the released form of the paper's model", () => {
  it.each([
    ['opt-30b', opt30b, 7.14, 2],
    ['opt-175b', opt175b, 0.15, 2],
  ] as const)(
    "predicts of FlexGen's policy for %s what the published code predicts",
    (model, policy, expected, digits) => {
      const study = released(model);
      const seconds = sweepSeconds(paperProblem(study, policy.block), policy.fractions);
      expect(paperThroughput(study, policy.block, seconds)).toBeCloseTo(expected, digits);
    },
  );

  it('divides the time of a layer of OPT-30B as the published code does', () => {
    const { prefill, decode } = paperLayerSeconds(released('opt-30b'), opt30b.block, opt30b.fractions);
    expect(prefill.comp).toBeCloseTo(4.389, 3);
    expect(decode.ctog).toBeCloseTo(0.071, 3);
    expect(decode.comp).toBeCloseTo(0.221, 3);
  });

  it('finds a layer of OPT-175B bound by reading the disk, as the published code does', () => {
    const { decode } = paperLayerSeconds(released('opt-175b'), opt175b.block, opt175b.fractions);
    expect(decode.dtoc).toBeCloseTo(16.8, 1);
  });

  // Capacities of that search: 16, 200 and 1500 GB, of which it uses 0.8.
  const capacityBytes = { gpu: 0.8 * 16 * GiB, cpu: 0.8 * 200 * GiB, disk: 0.8 * 1500 * GiB };
  it.each([
    ['opt-30b', block(32, 5), 7.09],
    ['opt-175b', block(1, 432), 0.17],
  ])('places the block that its free search chose as fast: %s', (model, chosen, expected) => {
    const study = { ...released(model), machine: { ...paperT4, capacityBytes } };
    const placed = solvePlacement(paperProblem(study, chosen), solve)!;
    expect(excessBytes(paperProblem(study, chosen), placed.fractions)).toEqual({});
    const throughput = paperThroughput(study, chosen, placed.seconds);
    expect(Math.abs(throughput / expected - 1)).toBeLessThan(0.015);
  });
});

describe("the paper's model, where all traffic overlaps", () => {
  // Table 15: policies that FlexGen ran on a T4; none of them ran out of memory.
  const policies = [
    ['opt-6.7b', 512, block(2, 1), percent(100, 0, 100, 0, 100, 0)],
    ['opt-6.7b', 1024, block(1, 1), percent(100, 0, 100, 0, 100, 0)],
    ['opt-30b', 512, block(48, 3), percent(20, 80, 0, 100, 0, 100)],
    ['opt-30b', 1024, block(20, 4), percent(4, 96, 0, 100, 0, 100)],
    ['opt-175b', 512, block(32, 8), percent(0, 50, 0, 0, 0, 100)],
    ['opt-175b', 1024, block(12, 12), percent(0, 50, 0, 0, 0, 100)],
  ] as const;

  it.each(policies)(
    'holds the policy of the paper for %s at %i, and the search is at least as fast',
    (model, ...rest) => {
      const [promptLen, chosen, fractions] = rest;
      const study: PaperCase = { ...released(model), form: 'paper', machine: paperT4WithItsDisk, promptLen };
      const problem = paperProblem(study, chosen);
      expect(excessBytes(problem, fractions)).toEqual({});
      const theirs = paperThroughput(study, chosen, sweepSeconds(problem, fractions));
      const found = searchPaper(study, solve)!;
      expect(found.throughput).toBeGreaterThan(0.999999 * theirs);
      const again = paperProblem(study, found);
      expect(excessBytes(again, found.fractions)).toEqual({});
      expect(paperThroughput(study, found, sweepSeconds(again, found.fractions))).toBeCloseTo(found.throughput, 4);
    },
  );

  it("comes near the paper's measurement of OPT-175B without the page cache, with the disk that was there", () => {
    const study: PaperCase = { ...released('opt-175b'), form: 'paper', machine: paperT4WithItsDisk };
    const seconds = sweepSeconds(paperProblem(study, opt175b.block), opt175b.fractions);
    // Table 24: 0.49 token/s.
    expect(Math.abs(paperThroughput(study, opt175b.block, seconds) / 0.49 - 1)).toBeLessThan(0.1);
  });

  it('says what a tier must hold where nothing fits, no more and no less', () => {
    const study = (cpu: number): PaperCase => {
      const capacityBytes = { gpu: 8 * GiB, cpu, disk: GiB };
      return { ...released('opt-6.7b'), form: 'paper', machine: { ...paperT4, capacityBytes } };
    };
    const placed = (cpu: number) => solvePlacement(paperProblem(study(cpu), block(1, 1)), solve);
    expect(placed(GiB)).toBeUndefined();
    expect(searchPaper(study(GiB), solve)).toBeUndefined();
    const needed = neededBytes(paperProblem(study(GiB), block(1, 1)), 'cpu', solve)!;
    expect(placed(1.001 * needed)).toBeDefined();
    expect(placed(0.999 * needed)).toBeUndefined();
  });
});
