/**
 * Rotary position tables: cosine and sine of every position's angles.
 *
 * Source: RoFormer §3.2.2; Llama 3's scaling as in Hugging Face's `modeling_rope_utils`, in double precision and rounded
 * to float32 at the end.
 */
import { rotaryOf } from '../model/attention.js';
import type { ModelConfig, RopeScaling, Rotary } from '../model/config.js';

/** Each (numPositions, rotaryDim / 2). */
export interface RotaryTables {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly rotaryDim: number;
}

/** Tables of each decoder layer, made once for layers that turn alike; undefined where a layer does not. */
export function rotaryByLayer(config: ModelConfig): (layer: number) => RotaryTables | undefined {
  const made = new Map<string, RotaryTables>();
  return (layer) => {
    const rotary = rotaryOf(config, layer);
    if (!rotary) return undefined;
    const key = JSON.stringify(rotary);
    const tables = made.get(key) ?? rotaryTables(rotary, config.maxPositions);
    made.set(key, tables);
    return tables;
  };
}

export function rotaryTables(rotary: Rotary, numPositions: number): RotaryTables {
  const { rotaryDim } = rotary;
  const frequencies = rotaryFrequencies(rotary);
  const half = rotaryDim / 2;
  const cos = new Float32Array(numPositions * half);
  const sin = new Float32Array(numPositions * half);
  for (let position = 0; position < numPositions; position++) {
    for (let i = 0; i < half; i++) {
      // The angle is rounded to float32 first, as the reference implementation does; at far positions it matters.
      const angle = Math.fround(position * frequencies[i]!);
      cos[position * half + i] = Math.cos(angle);
      sin[position * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin, rotaryDim };
}

/** (rotaryDim / 2) radians a position, scaled, in float32 precision. */
function rotaryFrequencies({ theta, rotaryDim, scaling }: Rotary): number[] {
  return Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const frequency = 1 / theta ** ((2 * i) / rotaryDim);
    return Math.fround(scaling ? scaled(frequency, i, scaling) : frequency);
  });
}

function scaled(frequency: number, index: number, scaling: RopeScaling): number {
  if (scaling.kind === 'linear') return frequency / scaling.factor;
  if (scaling.kind === 'factors') return frequency / (scaling.factors[index] ?? 1);
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
  const turns = (originalMaxPositions * frequency) / (2 * Math.PI);
  if (turns < lowFreqFactor) return frequency / factor;
  if (turns > highFreqFactor) return frequency;
  const smooth = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - smooth) * (frequency / factor) + smooth * frequency;
}
