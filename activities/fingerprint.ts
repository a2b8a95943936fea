/**
 * The identity of a run: everything that can change an answer, as named values, and one sum over them.
 *
 * Not in it: where files lie, how requests are divided among shards and batches, threads, and how answers are scored.
 */
import { createHash } from 'node:crypto';
import type { SourceSpec } from '../datasets/source.js';
import type { Pipeline } from '../datasets/spec.js';
import type { EngineSettings } from '../datasets/spec-engine.js';
import { identityOf } from '../engine/model/identity.js';
import type { OpenModel } from '../engine/model/open.js';
import { kvReadingOf, numericsOf } from '../engine/numerics.js';
import { DEFAULT_WEIGHT_BITS } from '../engine/offload-store.js';

/** Values by name, such as `model` or `tasks.capitals.wording.text`. */
export type Identity = Readonly<Record<string, string>>;

/** Keys of a pipeline that no answer depends on: places for messages, and what happens to answers afterwards. */
const irrelevant = new Set(['where', 'path', 'version', 'metrics', 'filters']);

/** @param cacheDir where sums of files are remembered. */
export async function identify(pipeline: Pipeline, model: OpenModel, cacheDir: string): Promise<Identity> {
  const { work, engine, limit, seed, columns, name } = pipeline;
  const values = new Map<string, string>([
    ['model', model.weights.identity],
    ['engine numerics', engineNumerics(engine)],
    ['limit', limit === null ? 'none' : String(limit)],
    ['seed', String(seed)],
    ['columns', JSON.stringify(columns)],
  ]);
  const bits = roundedBits(engine, model);
  if (bits !== undefined) values.set('weight bits', String(bits));
  if (work.kind === 'table') {
    // Row ids begin with it.
    values.set('name', name);
    await flatten(work, '', values, cacheDir);
  } else {
    const { tasks, ...settings } = work;
    values.set('tasks', JSON.stringify(tasks.map((task) => task.name)));
    await flatten(settings, '', values, cacheDir);
    for (const task of tasks) await flatten(task, `tasks.${task.name}`, values, cacheDir);
  }
  return Object.fromEntries([...values].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The arithmetic that a pipeline's engine computes with. */
export function engineNumerics(engine: EngineSettings): string {
  return numericsOf(engine.backend, { computeBits: engine.computeBits, ...kvReadingOf(engine) });
}

/** SHA-256, in hex, over the names and values. */
export function fingerprintOf(identity: Identity): string {
  return createHash('sha256')
    .update(JSON.stringify(Object.entries(identity)))
    .digest('hex');
}

/** What differs, for a message: names, and values where they are short. */
export function differences(before: Identity, now: Identity): string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].sort();
  return names
    .filter((name) => before[name] !== now[name])
    .map((name) => {
      const [was, is] = [before[name] ?? 'absent', now[name] ?? 'absent'];
      return was.length + is.length <= 80 ? `${name} (was ${was}, is ${is})` : name;
    });
}

/**
 * Bits of the offload store that the engine makes of the model, if its form may change a weight. Memory budgets alone
 * change none, and a model that is a store already has its form in its identity.
 */
function roundedBits({ hostMemoryBytes, weightBits }: EngineSettings, model: OpenModel): number | undefined {
  const isMade = (hostMemoryBytes !== undefined || weightBits !== undefined) && model.format !== 'store';
  const bits = weightBits ?? DEFAULT_WEIGHT_BITS;
  if (!isMade || bits === 32) return undefined;
  const { names, shape, storedType } = model.weights;
  const isExact = bits === 16 && names.every((name) => shape(name).length !== 2 || storedType(name) === 'F16');
  return isExact ? undefined : bits;
}

async function flatten(value: unknown, name: string, into: Map<string, string>, cacheDir: string): Promise<void> {
  if (isSource(value)) {
    const { files, ...reading } = value;
    const sums: string[] = [];
    for (const file of files) sums.push(await identityOf([file], cacheDir));
    into.set(name, `sha256 ${sums.join(', ')}`);
    await flatten(reading, name, into, cacheDir);
  } else if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    for (const [key, inner] of Object.entries(value)) {
      if (!irrelevant.has(key)) await flatten(inner, name === '' ? key : `${name}.${key}`, into, cacheDir);
    }
  } else {
    into.set(name, JSON.stringify(value) ?? 'undefined');
  }
}

function isSource(value: unknown): value is SourceSpec {
  return typeof value === 'object' && value !== null && 'files' in value && Array.isArray(value.files);
}
