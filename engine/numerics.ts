/**
 * Names of the engine's arithmetics. A name changes whenever answers may: it is part of every run's fingerprint.
 *
 * Apart from the backends, so that a run can be identified without opening a model.
 */
import type { ComputeBits } from './backends/backend.js';
import { EngineError } from './errors.js';
import type { KvReading } from './model/config.js';
import type { EngineOptions } from './requests.js';

const names = { onnx: { 32: 'onnx-fp32-2', 8: 'onnx-int8-1' }, reference: { 32: 'reference-1' } } as const;

export interface Arithmetic extends KvReading {
  /** Of the products. */
  readonly computeBits?: ComputeBits | undefined;
}

/** @throws BAD_INPUT where a backend cannot compute with so many bits. */
export function numericsOf(
  backend: EngineOptions['backend'],
  { computeBits = 32, bits, share }: Arithmetic = {},
): string {
  const own: Readonly<Partial<Record<ComputeBits, string>>> = names[backend];
  const name = own[computeBits];
  if (name) return [name, ...(bits ? [`kv${bits}`] : []), ...(share ? [`top${share}`] : [])].join(' ');
  const known = Object.keys(own).join(' or ');
  throw new EngineError('BAD_INPUT', `the ${backend} backend computes with ${known} bits, not ${computeBits}`, {
    backend,
    found: computeBits,
  });
}

/** What the options of an engine, or of a pipeline, say of the KV cache; undefined where it is read whole, in float32. */
export function kvReadingOf({
  kvBits,
  sparseAttention,
}: Pick<EngineOptions, 'kvBits' | 'sparseAttention'>): KvReading | undefined {
  const bits = kvBits === 32 ? undefined : kvBits;
  const share = sparseAttention === 1 ? undefined : sparseAttention;
  if (bits === undefined && share === undefined) return undefined;
  return { ...(bits !== undefined && { bits }), ...(share !== undefined && { share }) };
}
