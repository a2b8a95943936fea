/** A hardware profile as a file: JSON that zigzag doctor writes, and that people change. */
import { EngineError } from '../errors.js';
import type { HardwareProfile } from './hardware.js';

/** As JSON, for a file. */
export function formatHardware(profile: HardwareProfile): string {
  return `${JSON.stringify(profile, undefined, 2)}\n`;
}

/**
 * @param where the file, for the message
 * @throws BAD_INPUT naming the file, the key, what was found and what is needed
 */
export function parseHardware(text: string, where: string): HardwareProfile {
  const refuse = (problem: string) => new EngineError('BAD_INPUT', `${where}: ${problem}`, { path: where });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse(`is not valid JSON (${(error as Error).message}); zigzag doctor writes such files`);
  }
  const meet = (whole: unknown, needs: Needs, prefix = '') => {
    for (const [path, { is, needed }] of Object.entries(needs)) {
      const found = at(whole, path);
      if (!is(found)) throw refuse(`${prefix}${path}: needs ${needed}, found ${JSON.stringify(found) ?? 'nothing'}`);
    }
  };
  meet(value, profileNeeds);
  const profile = value as HardwareProfile;
  if (Object.keys(profile.products).length === 0)
    throw refuse('products: needs the curve of one form of weights at least');
  for (const [form, measured] of Object.entries(profile.products)) {
    if (isProductRates(measured)) continue;
    throw refuse(`products.${form}: needs ${PRODUCTS}, found ${JSON.stringify(measured)}`);
  }
  for (const [i, rehearsal] of (profile.rehearsed ?? []).entries()) meet(rehearsal, rehearsalNeeds, `rehearsed[${i}].`);
  if (profile.computeTier === 'gpu') {
    for (const path of ['links.hostToDevice', 'links.deviceToHost']) {
      if (!isLink(at(value, path))) throw refuse(`${path}: a machine with a gpu needs ${LINK}`);
    }
  }
  const attends = profile.attention.cacheBytesPerSecond[profile.computeTier];
  if (attends === undefined)
    throw refuse(`attention.cacheBytesPerSecond.${profile.computeTier}: needs a positive number`);
  return profile;
}

interface Need {
  readonly is: (value: unknown) => boolean;
  readonly needed: string;
}

/** By path. */
type Needs = Readonly<Record<string, Need>>;

const CURVE = 'pairs of rows and FLOP/s by rising rows, such as [[1, 2e9], [64, 90e9]]';
const PRODUCTS = 'a list such as [{"width": 2048, "curve": [[1, 2e9], [64, 90e9]]}]';
const LINK = '{"alone": bytes a second, "together": bytes a second}';
const text: Need = { is: (value) => typeof value === 'string' && value !== '', needed: 'a text' };
const positive: Need = { is: isPositive, needed: 'a positive number' };
const bytes: Need = { is: (value) => typeof value === 'number' && value >= 0, needed: 'a number of bytes' };
const seconds: Need = { is: (value) => typeof value === 'number' && value >= 0, needed: 'seconds' };
const link: Need = { is: isLink, needed: LINK };
const rates: Need = {
  is: (value) => isRecord(value) && Object.values(value).every(isPositive),
  needed: 'positive numbers by tier, such as {"cpu": 9e9}',
};

const profileNeeds: Needs = {
  name: text,
  source: text,
  computeTier: { is: (value) => value === 'gpu' || value === 'cpu', needed: '"gpu" or "cpu"' },
  'capacityBytes.gpu': bytes,
  'capacityBytes.cpu': bytes,
  'capacityBytes.disk': bytes,
  'links.diskRead': link,
  'links.diskWrite': link,
  products: { is: isRecord, needed: 'curves by form of the weights' },
  'attention.prompt': { is: isCurve, needed: CURVE },
  'attention.cacheBytesPerSecond': rates,
  elementsPerSecond: positive,
  callSeconds: seconds,
  rehearsed: {
    is: (value) => value === undefined || (Array.isArray(value) && value.length > 0),
    needed: 'a list of what rehearsals found, or nothing',
  },
};

const rehearsalNeeds: Needs = {
  width: positive,
  products: positive,
  partSeconds: seconds,
  attention: positive,
  disk: positive,
};

function at(value: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((inner, key) => (isRecord(inner) ? inner[key] : undefined), value);
}

function isLink(value: unknown): boolean {
  return isRecord(value) && isPositive(value.alone) && isPositive(value.together);
}

function isCurve(value: unknown): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  return value.every(
    (point: unknown, i) =>
      Array.isArray(point) && point.length === 2 && point.every(isPositive) && (i === 0 || point[0] > value[i - 1][0]),
  );
}

function isProductRates(value: unknown): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  return value.every((measured) => isRecord(measured) && isPositive(measured.width) && isCurve(measured.curve));
}

function isPositive(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(value) && value > 0;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
