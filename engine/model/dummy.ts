/**
 * Random weights of any shape, for measuring: the same for the same seed, any rows of them made alone.
 *
 * Each value is a hash of its place, so a store of many gigabytes is written in one pass and nothing is kept. Values are
 * spread like a trained model's (normal-like, standard deviation 0.02, norms around 1), never exactly zero or one:
 * products with zeros, and results that overflow, would be measured faster or slower than real ones.
 */
import { createHash } from 'node:crypto';
import { EngineError } from '../errors.js';
import type { ModelConfig } from './config.js';
import { tensorShapes } from './shapes.js';
import type { WeightSource } from './weights.js';

export function dummyWeights(config: ModelConfig, seed: number): WeightSource {
  const shapes = new Map(tensorShapes(config));
  const identity = createHash('sha256')
    .update(`dummy weights 1\n${seed}\n${JSON.stringify(config)}`)
    .digest('hex');
  const shapeOf = (name: string): readonly number[] => {
    const shape = shapes.get(name);
    if (shape !== undefined) return shape;
    throw new EngineError('BAD_WEIGHTS', `dummy weights: this model has no tensor ${name}`, { tensor: name });
  };
  return {
    config,
    identity,
    names: [...shapes.keys()],
    shape: shapeOf,
    storedType: () => 'F32',
    read: async (name, rowStart = 0, rowEnd, into) => {
      const shape = shapeOf(name);
      const end = rowEnd ?? shape[0]!;
      if (!(rowStart >= 0 && rowStart <= end && end <= shape[0]!)) {
        throw new RangeError(`${name}: rows ${rowStart} to ${end} of ${shape[0]}`);
      }
      const columns = shape[1] ?? 1;
      const values = (end - rowStart) * columns;
      const target = into ?? new Float32Array(values);
      if (target.length < values) {
        throw new RangeError(`${name}: needed room for ${values} values, found ${target.length}`);
      }
      fillRandom(
        target,
        values,
        rowStart * columns,
        keysOf(seed, name),
        /norm\.weight$/i.test(name) ? normSpread : valueSpread,
      );
      return target;
    },
    close: async () => {},
  };
}

/** Centre and standard deviation. */
interface Spread {
  readonly centre: number;
  readonly deviation: number;
}

const valueSpread: Spread = { centre: 0, deviation: 0.02 };
const normSpread: Spread = { centre: 1, deviation: 0.05 };

type Keys = readonly [number, number];

/** Every tensor of every seed has numbers of its own. */
function keysOf(seed: number, name: string): Keys {
  const digest = createHash('sha256').update(`${seed} ${name}`).digest();
  return [digest.readInt32LE(0), digest.readInt32LE(4)];
}

/**
 * The sum of three uniform numbers of 11 bits, from one hash, is close to normal within three deviations. The hash is Chris
 * Wellons' lowbias32, with a second key inside.
 */
function fillRandom(
  target: Float32Array,
  values: number,
  first: number,
  [key0, key1]: Keys,
  { centre, deviation }: Spread,
): void {
  // Uniform in 0..2047: variance 2048² / 12, so three have a standard deviation of 1024. The half keeps off zero.
  const unit = deviation / 1024;
  const offset = centre - 3070.5 * unit;
  // The counter wraps at 2^32, which no tensor reaches.
  const start = first | 0;
  for (let i = 0; i < values; i++) {
    let hash = (start + i) ^ key0;
    hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d) + key1;
    hash = Math.imul(hash ^ (hash >>> 15), 0x846ca68b);
    hash ^= hash >>> 16;
    target[i] = ((hash & 2047) + ((hash >>> 11) & 2047) + 2 * (hash >>> 22)) * unit + offset;
  }
}
