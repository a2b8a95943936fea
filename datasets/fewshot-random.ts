/**
 * Python's `random.Random(seed).sample`, number for number: few-shot examples are then those that lm-eval draws.
 *
 * Source: M. Matsumoto and T. Nishimura, "Mersenne Twister" (MT19937, initialised by array); CPython 3.12,
 * `Lib/random.py`, `sample` and `_randbelow_with_getrandbits`.
 */

export interface PythonRandom {
  /** `count` different positions below `size`, in the order drawn. */
  sample(size: number, count: number): number[];
}

const stateLength = 624;
const shiftLength = 397;

/** @param seed a whole number from 0 to 2^53 - 1. */
export function pythonRandom(seed: number): PythonRandom {
  const nextWord = mersenneTwister(seed);
  const below = (limit: number) => {
    const bits = 32 - Math.clz32(limit);
    for (;;) {
      const drawn = nextWord() >>> (32 - bits);
      if (drawn < limit) return drawn;
    }
  };
  return {
    sample(size, count) {
      if (count > size) throw new RangeError(`a sample of ${count} from ${size}`);
      return poolIsCheaper(size, count) ? sampleFromPool(size, count, below) : sampleBySet(size, count, below);
    },
  };
}

/** CPython's estimate of when a list of all positions is smaller than a set of those drawn; it decides which draws are made. */
function poolIsCheaper(size: number, count: number): boolean {
  const setSize = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
  return size <= setSize;
}

function sampleFromPool(size: number, count: number, below: (limit: number) => number): number[] {
  const pool = Array.from({ length: size }, (_, i) => i);
  return Array.from({ length: count }, (_, i) => {
    const j = below(size - i);
    const drawn = pool[j]!;
    pool[j] = pool[size - i - 1]!;
    return drawn;
  });
}

function sampleBySet(size: number, count: number, below: (limit: number) => number): number[] {
  const drawn = new Set<number>();
  while (drawn.size < count) drawn.add(below(size));
  return [...drawn];
}

/** The generator's 32-bit words, one a call. */
function mersenneTwister(seed: number): () => number {
  const state = initialState(seed);
  let position = stateLength;
  return () => {
    if (position === stateLength) {
      turn(state);
      position = 0;
    }
    let word = state[position++]!;
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  };
}

function turn(state: Uint32Array): void {
  for (let i = 0; i < stateLength; i++) {
    const mixed = (state[i]! & 0x80000000) | (state[(i + 1) % stateLength]! & 0x7fffffff);
    state[i] = state[(i + shiftLength) % stateLength]! ^ (mixed >>> 1) ^ ((mixed & 1) === 0 ? 0 : 0x9908b0df);
  }
}

function initialState(seed: number): Uint32Array {
  const key = seed < 2 ** 32 ? [seed] : [seed % 2 ** 32, Math.floor(seed / 2 ** 32)];
  const state = new Uint32Array(stateLength);
  const mixedBefore = (i: number) => state[i - 1]! ^ (state[i - 1]! >>> 30);
  state[0] = 19650218;
  for (let i = 1; i < stateLength; i++) state[i] = Math.imul(1812433253, mixedBefore(i)) + i;
  let i = 1;
  const advance = () => {
    i++;
    if (i < stateLength) return;
    state[0] = state[stateLength - 1]!;
    i = 1;
  };
  for (let step = 0; step < stateLength; step++) {
    const j = step % key.length;
    state[i] = (state[i]! ^ Math.imul(mixedBefore(i), 1664525)) + key[j]! + j;
    advance();
  }
  for (let step = 1; step < stateLength; step++) {
    state[i] = (state[i]! ^ Math.imul(mixedBefore(i), 1566083941)) - i;
    advance();
  }
  state[0] = 0x80000000;
  return state;
}
