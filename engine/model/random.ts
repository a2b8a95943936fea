/**
 * Random numbers of one request: a small generator with a state that can be written down.
 *
 * sfc32 (Chris Doty-Humphrey, PractRand): 128 bits of state, passes BigCrush, a few integer operations a number.
 */
export type RandomState = readonly [number, number, number, number];

export interface Random {
  /** Uniform in [0, 1), 32 bits of it. */
  next(): number;
  state(): RandomState;
}

/** Equal seeds give equal sequences, on every machine. */
export function seededRandom(seed: number): Random {
  // The seed fills two words, so that seeds above 2^32 differ too; 12 steps mix it into all of the state.
  const low = seed >>> 0;
  const high = Math.floor(seed / 2 ** 32) >>> 0;
  const random = resumedRandom([high, low, 0, 1]);
  for (let i = 0; i < 12; i++) random.next();
  return random;
}

export function resumedRandom([a0, b0, c0, counter0]: RandomState): Random {
  let [a, b, c, counter] = [a0 | 0, b0 | 0, c0 | 0, counter0 | 0];
  return {
    next() {
      const sum = (((a + b) | 0) + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (c << 21) | (c >>> 11);
      c = (c + sum) | 0;
      return (sum >>> 0) / 2 ** 32;
    },
    state: () => [a >>> 0, b >>> 0, c >>> 0, counter >>> 0],
  };
}
