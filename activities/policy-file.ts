/** A policy file: some of a policy's values as JSON, in place of what the budget would suggest. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { unknownName } from '../datasets/suggest.js';
import type { Policy } from '../engine/policy/policy.js';

/** @throws InputError naming the file, the key, what was found and what is needed. Ranges are checked by the engine. */
export function readPolicy(path: string): Partial<Policy> {
  const file = resolve(path);
  const policy = parse(file);
  for (const [key, value] of Object.entries(policy)) {
    if (!Object.hasOwn(kinds, key)) {
      throw new InputError(`${file}: unknown key: ${unknownName(key, Object.keys(kinds))}`);
    }
    const { is, needed } = kinds[key as keyof Policy];
    if (!is(value)) throw new InputError(`${file}: ${key}: needs ${needed}, found ${JSON.stringify(value)}`);
  }
  return policy as Partial<Policy>;
}

interface Kind {
  readonly is: (value: unknown) => boolean;
  readonly needed: string;
}

const count: Kind = {
  is: (value) => Number.isSafeInteger(value) && Number(value) >= 1,
  needed: 'a number of at least 1',
};
const bytes: Kind = {
  is: (value) => Number.isSafeInteger(value) && Number(value) >= 0,
  needed: 'a number of bytes',
};
const flag: Kind = { is: (value) => typeof value === 'boolean', needed: 'true or false' };
const schedule: Kind = {
  is: (value) => value === 'continuous' || value === 'block',
  needed: '"continuous" or "block"',
};
const tiers = ['gpu', 'cpu', 'disk'];
const fractions: Kind = {
  is: (value) =>
    isRecord(value) &&
    Object.keys(value).length === tiers.length &&
    tiers.every((tier) => typeof value[tier] === 'number' && value[tier] >= 0 && value[tier] <= 1),
  needed: 'shares from 0 to 1 that make 1, such as {"gpu": 0, "cpu": 0.25, "disk": 0.75}',
};

const kinds: Readonly<Record<keyof Policy, Kind>> = {
  gpuBatchSize: count,
  numGpuBatches: count,
  schedule,
  overlap: flag,
  maxRows: count,
  paced: flag,
  weights: fractions,
  kv: fractions,
  activations: fractions,
  partBytes: count,
  buffers: count,
  prefixBytes: bytes,
};

function parse(file: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    const reason = error instanceof SyntaxError ? `is not valid JSON (${error.message})` : (error as Error).message;
    throw new InputError(`policy: ${file}: ${reason}; give "auto", or a JSON file with values of a policy`);
  }
  if (isRecord(value)) return value;
  throw new InputError(`policy: ${file}: needs an object such as {"gpuBatchSize": 32, "overlap": false}`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
