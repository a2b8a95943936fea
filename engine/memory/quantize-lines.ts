/**
 * Groups one after another: 64 neighbours in memory, as in one head of keys or values.
 *
 * A cache holds millions of groups and each is small, so nothing is allocated or called for one.
 */
import { float16 } from '../model/dequantise.js';
import { float16Bits } from './float16.js';
import type { GroupRun, QuantizedArrays } from './quantize-groups.js';
import { clampToFloat16, codeOf, GROUP_SIZE, scaleOf } from './quantize-groups.js';

/** Encodes `run.end` values that lie in `values` from `from` on; `run.start` is 0. */
export function encodeLine(values: Float32Array, from: number, target: QuantizedArrays, run: GroupRun): void {
  const { bits, data } = target;
  const levels = 2 ** bits - 1;
  for (let offset = 0, group = run.group; offset < run.end; offset += GROUP_SIZE, group++) {
    const start = from + offset;
    const end = from + Math.min(run.end, offset + GROUP_SIZE);
    // The values that fill up the last group are zeros.
    let min = end - start < GROUP_SIZE ? 0 : values[start]!;
    let max = min;
    for (let at = start; at < end; at++) {
      const value = values[at]!;
      if (value < min) min = value;
      if (value > max) max = value;
    }
    scratch[0] = scaleOf(levels, min, max);
    scratch[1] = clampToFloat16(min);
    target.scale[group] = float16Bits(scratchBits[0]!);
    target.min[group] = float16Bits(scratchBits[1]!);
    const scale = bits === 8 ? float16[target.scale[group]!]! : scratch[0]!;
    min = bits === 8 ? float16[target.min[group]!]! : scratch[1]!;
    if (bits === 8) {
      for (let i = 0, to = group * GROUP_SIZE; i < GROUP_SIZE; i++) {
        data[to + i] = codeOf(start + i < end ? values[start + i]! : 0, min, scale, levels);
      }
    } else {
      for (let i = 0, to = (group * GROUP_SIZE) / 2; i < GROUP_SIZE; i += 2, to++) {
        const high = codeOf(start + i < end ? values[start + i]! : 0, min, scale, levels);
        data[to] = (high << 4) | codeOf(start + i + 1 < end ? values[start + i + 1]! : 0, min, scale, levels);
      }
    }
  }
}

/** Decodes values [start, end) into `target` from `to` on. */
export function decodeLine(source: QuantizedArrays, run: GroupRun, target: Float32Array, to: number): void {
  const decode = source.bits === 4 ? decode4 : decode8;
  for (let at = run.start; at < run.end; ) {
    const group = run.group + Math.floor(at / GROUP_SIZE);
    const within = at % GROUP_SIZE;
    const count = Math.min(run.end - at, GROUP_SIZE - within);
    const inverse = 1 / float16[source.scale[group]!]!;
    const min = float16[source.min[group]!]!;
    decode(source.data, group * GROUP_SIZE + within, count, inverse, min, target, to + at - run.start);
    at += count;
  }
}

/** `from` counts values, as if each had a byte. */
type Decode = (
  data: Uint8Array,
  from: number,
  count: number,
  inverse: number,
  min: number,
  target: Float32Array,
  to: number,
) => void;

const decode8: Decode = (data, from, count, inverse, min, target, to) => {
  for (let i = 0; i < count; i++) target[to + i] = Math.fround(data[from + i]! * inverse) + min;
};

const decode4: Decode = (data, from, count, inverse, min, target, to) => {
  for (let i = 0; i < count; i++) {
    const code = (data[(from + i) >> 1]! >> ((from + i) & 1 ? 0 : 4)) & 15;
    target[to + i] = Math.fround(code * inverse) + min;
  }
};

const scratch = new Float32Array(2);
const scratchBits = new Int32Array(scratch.buffer);
