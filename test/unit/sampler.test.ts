import { describe, expect, it } from 'vitest';
import { resumedRandom, seededRandom } from '../../engine/model/random.js';
import { chooseToken, headNeeds } from '../../engine/model/sampler.js';

const sampling = (changes: object) => ({ temperature: 1, topK: 0, topP: 1, seed: 0, ...changes });
/** Probabilities 0.5, 0.25, 0.125, 0.125 in this order of ids. */
const logits = Float32Array.from([0.125, 0.5, 0.25, 0.125], Math.log);

/** How often each id is drawn, of 20000. */
function shares(changes: object): number[] {
  const random = seededRandom(7);
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 20_000; i++) counts[chooseToken(sampling(changes), { logits }, random)]!++;
  return counts.map((count) => count / 20_000);
}

describe('chooseToken', () => {
  // Three standard deviations of a share of one half in 20000 draws are 0.011.
  it.each([
    ['draws by probability', {}, [0.125, 0.5, 0.25, 0.125]],
    ['sharpens with a low temperature (squares)', { temperature: 0.5 }, [0.04545, 0.72727, 0.18182, 0.04545]],
    ['keeps the k most probable', { topK: 2 }, [0, 0.66667, 0.33333, 0]],
    ['keeps the smallest set that reaches p', { topP: 0.7 }, [0, 0.66667, 0.33333, 0]],
    ['keeps at least one', { topP: 0.01 }, [0, 1, 0, 0]],
    ['counts p within what k left', { topK: 2, topP: 0.6 }, [0, 1, 0, 0]],
    ['takes the lower id of equals', { topK: 3 }, [0.14286, 0.57143, 0.28571, 0]],
  ])('%s', (_, changes, expected) => {
    shares(changes).forEach((share, id) => {
      expect(Math.abs(share - expected[id]!)).toBeLessThan(0.011);
    });
  });

  it("draws the same from the head's ranking as from all logits", () => {
    const ranked = { ids: Int32Array.of(1, 2), logits: Float32Array.from([0.5, 0.25], Math.log) };
    const [a, b] = [seededRandom(3), seededRandom(3)];
    for (let i = 0; i < 100; i++) {
      expect(chooseToken(sampling({ topK: 2 }), ranked, a)).toBe(chooseToken(sampling({ topK: 2 }), { logits }, b));
    }
  });

  it('finds a flat nucleus that reaches far into the vocabulary', () => {
    const flat = new Float32Array(1000).fill(-30);
    flat[500] = 0;
    const drawn = chooseToken(sampling({ temperature: 100, topP: 0.9999 }), { logits: flat }, seededRandom(1));
    expect(drawn).toBeGreaterThanOrEqual(0);
    expect(drawn).toBeLessThan(1000);
  });
});

describe('headNeeds', () => {
  it.each([
    ['greedy needs the best logit only', { temperature: 0 }, { top: 1, all: false }],
    ['a small k needs the k largest', { topK: 40 }, { top: 40, all: false }],
    ['a large k needs all', { topK: 5000 }, { top: 1, all: true }],
    ['no k needs all', {}, { top: 1, all: true }],
  ])('%s', (_, changes, expected) => expect(headNeeds(sampling(changes))).toEqual(expected));
});

describe('seededRandom', () => {
  it('is uniform, and differs between neighbouring seeds and seeds above 2^32', () => {
    const means = [1, 2, 2 ** 32 + 1].map((seed) => {
      const random = seededRandom(seed);
      return Array.from({ length: 10_000 }, () => random.next()).reduce((a, b) => a + b) / 10_000;
    });
    for (const mean of means) expect(Math.abs(mean - 0.5)).toBeLessThan(0.01);
    expect(new Set(means).size).toBe(3);
  });

  it('goes on from a written state', () => {
    const random = seededRandom(42);
    random.next();
    const resumed = resumedRandom(random.state());
    expect([resumed.next(), resumed.next()]).toEqual([random.next(), random.next()]);
  });
});
