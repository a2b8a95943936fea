/** The formulas of the reference, one by one: sums in double precision, nothing tuned. */
import type { Activation, ModelConfig } from '../model/config.js';

/** y = x Wᵀ + b. x (rows, in), W (out, in), b (out). */
export function product(x: Float32Array, weight: Float32Array, inSize: number, bias?: Float32Array): Float32Array {
  const rows = x.length / inSize;
  const outSize = weight.length / inSize;
  const y = new Float32Array(rows * outSize);
  for (let row = 0; row < rows; row++) {
    for (let out = 0; out < outSize; out++) {
      let sum = bias?.[out] ?? 0;
      for (let i = 0; i < inSize; i++) sum += x[row * inSize + i]! * weight[out * inSize + i]!;
      y[row * outSize + out] = sum;
    }
  }
  return y;
}

/** RMSNorm, or LayerNorm where there is a bias, over rows as wide as the weight. */
export function normalise(config: ModelConfig, x: Float32Array, weight: Float32Array, bias?: Float32Array) {
  const size = weight.length;
  const y = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += size) {
    let mean = 0;
    if (config.norm.kind === 'layer') {
      for (let i = 0; i < size; i++) mean += x[start + i]! / size;
    }
    let variance = 0;
    for (let i = 0; i < size; i++) variance += (x[start + i]! - mean) ** 2 / size;
    const scale = 1 / Math.sqrt(variance + config.norm.eps);
    for (let i = 0; i < size; i++) y[start + i] = (x[start + i]! - mean) * scale * weight[i]! + (bias?.[i] ?? 0);
  }
  return y;
}

/** Softmax of one row, in place. The maximum is subtracted so that exp cannot overflow. */
export function softmax(scores: Float64Array): void {
  let max = -Infinity;
  for (const score of scores) max = Math.max(max, score);
  let sum = 0;
  for (let i = 0; i < scores.length; i++) {
    scores[i] = Math.exp(scores[i]! - max);
    sum += scores[i]!;
  }
  for (let i = 0; i < scores.length; i++) scores[i] = scores[i]! / sum;
}

/** Keeps a value within (-cap, cap), and small ones as they are; without a cap, all. */
export function softcapped(value: number, cap: number | undefined): number {
  return cap === undefined ? value : cap * Math.tanh(value / cap);
}

export function activate(activation: Activation, x: number): number {
  switch (activation) {
    case 'relu':
      return Math.max(0, x);
    case 'silu':
      return x / (1 + Math.exp(-x));
    case 'gelu':
      return (x / 2) * (1 + erf(x / Math.SQRT2));
    case 'geluTanh':
      return (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  }
}

/** The error function by a series whose terms all have one sign (Abramowitz and Stegun 7.1.6), so that none cancel. */
export function erf(x: number): number {
  // Beyond this it is 1 in double precision.
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * Number.EPSILON; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
