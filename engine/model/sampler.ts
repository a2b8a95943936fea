/**
 * The next token from the logits: greedy, temperature, top-k, top-p.
 *
 * Order as in Hugging Face: temperature, then the k most probable, then the smallest set that reaches p. The head hands
 * over the largest logits only, unless the whole vocabulary can be drawn from.
 */
import type { Sampling } from '../requests.js';
import type { Random } from './random.js';

/** Up to this k the head's own ranking serves; above it, all logits are fetched and ranked here. */
const MAX_RANKED_BY_HEAD = 256;

/** Logits to draw from: `ids` tells whose they are; without it, logit i is token i's. */
export interface Candidates {
  readonly logits: Float32Array;
  readonly ids?: Int32Array;
}

/** What the head has to hand over for this sampling. */
export function headNeeds({ temperature, topK }: Sampling): { readonly top: number; readonly all: boolean } {
  if (temperature === 0) return { top: 1, all: false };
  if (topK > 0 && topK <= MAX_RANKED_BY_HEAD) return { top: topK, all: false };
  return { top: 1, all: true };
}

/** @returns the id drawn. Ranked candidates (with `ids`) come largest first. */
export function chooseToken(sampling: Sampling, { logits, ids }: Candidates, random: Random): number {
  if (ids && (sampling.temperature === 0 || sampling.topK === 1)) return ids[0]!;
  const weights = softWeights(logits, sampling.temperature);
  const ranked = ids ? ids.keys() : ranking(weights, sampling);
  const kept = keep(weights, ranked, sampling);
  const index = draw(weights, kept, random);
  return ids ? ids[index]! : index;
}

/** Unnormalised probabilities; the largest is 1, so none overflows. */
function softWeights(logits: Float32Array, temperature: number): Float64Array {
  let max = -Infinity;
  for (let i = 0; i < logits.length; i++) max = Math.max(max, logits[i]!);
  const weights = new Float64Array(logits.length);
  for (let i = 0; i < logits.length; i++) weights[i] = Math.exp((logits[i]! - max) / temperature);
  return weights;
}

/**
 * Indexes by falling weight, as far as top-k and top-p can reach: sorting a whole vocabulary for every token would cost
 * more than the model. Without either, the order does not matter and stays.
 */
function ranking(weights: Float64Array, { topK, topP }: Sampling): Iterable<number> {
  if (topK <= 0 && topP >= 1) return weights.keys();
  const total = weights.reduce((a, b) => a + b, 0);
  for (let threshold = 1e-2; ; threshold *= 1e-2) {
    const indexes: number[] = [];
    let mass = 0;
    for (let i = 0; i < weights.length; i++) {
      if (weights[i]! < threshold) continue;
      indexes.push(i);
      mass += weights[i]!;
    }
    const enough = topK > 0 ? indexes.length >= topK : mass >= topP * total;
    if (!enough && indexes.length < weights.length && threshold > 0) continue;
    return indexes.sort((a, b) => weights[b]! - weights[a]! || a - b);
  }
}

/** The indexes that may be drawn. Top-p counts what top-k left, renormalised. */
function keep(weights: Float64Array, ranked: Iterable<number>, { topK, topP }: Sampling): number[] {
  const kept = Array.from(ranked);
  if (topK > 0) kept.length = Math.min(kept.length, topK);
  if (topP >= 1) return kept;
  const outside = topK > 0 ? 0 : weights.length - kept.length;
  const total = outside > 0 ? weights.reduce((a, b) => a + b, 0) : kept.reduce((sum, i) => sum + weights[i]!, 0);
  let mass = 0;
  const cut = kept.findIndex((i) => {
    mass += weights[i]!;
    return mass >= topP * total;
  });
  return cut < 0 ? kept : kept.slice(0, cut + 1);
}

function draw(weights: Float64Array, kept: readonly number[], random: Random): number {
  const total = kept.reduce((sum, i) => sum + weights[i]!, 0);
  let left = random.next() * total;
  for (const index of kept) {
    left -= weights[index]!;
    if (left < 0) return index;
  }
  return kept[kept.length - 1]!;
}
