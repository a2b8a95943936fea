/**
 * Groups side by side: 64 rows of a matrix hold one group in each column.
 *
 * Loops run along the rows, since that is how the values lie.
 */
import { fromFloat16, toFloat16 } from './float16.js';
import type { GroupRun, QuantizedArrays } from './quantize-groups.js';
import { clampToFloat16, codeOf, GROUP_SIZE, scaleOf } from './quantize-groups.js';

/** Encodes `run.end` rows that lie in `values` from `from` on; `run.start` is 0. */
export function encodeColumns(values: Float32Array, from: number, target: QuantizedArrays, run: GroupRun): void {
  const { inner, end } = run;
  const { bits, data } = target;
  const levels = 2 ** bits - 1;
  const min = new Float32Array(inner);
  const scale = new Float32Array(inner);
  const encode = bits === 4 ? encode4 : encode8;
  for (let row = 0, group = run.group; row < end; row += GROUP_SIZE, group++) {
    const rows = Math.min(GROUP_SIZE, end - row);
    const at = from + row * inner;
    measure(values, at, rows, levels, min, scale);
    const scales = target.scale.subarray(group * inner, (group + 1) * inner);
    const mins = target.min.subarray(group * inner, (group + 1) * inner);
    toFloat16(scale, scales);
    toFloat16(min, mins);
    if (bits === 8) {
      fromFloat16(scales, scale);
      fromFloat16(mins, min);
    }
    encode(values, at, rows, min, scale, data, (group * GROUP_SIZE * inner * bits) / 8);
  }
}

/** Decodes rows [start, end) into `target` from `to` on. */
export function decodeColumns(source: QuantizedArrays, run: GroupRun, target: Float32Array, to: number): void {
  const { inner, start, end } = run;
  const inverse = new Float64Array(inner);
  const scale = new Float32Array(inner);
  const min = new Float32Array(inner);
  const decode = source.bits === 4 ? decode4 : decode8;
  for (let row = start; row < end; ) {
    const group = run.group + Math.floor(row / GROUP_SIZE);
    const rows = Math.min(end - row, GROUP_SIZE - (row % GROUP_SIZE));
    fromFloat16(source.scale.subarray(group * inner, (group + 1) * inner), scale);
    fromFloat16(source.min.subarray(group * inner, (group + 1) * inner), min);
    for (let i = 0; i < inner; i++) inverse[i] = 1 / scale[i]!;
    decode(source.data, run.group * GROUP_SIZE + row, rows, inverse, min, target, to + (row - start) * inner);
    row += rows;
  }
}

function measure(
  values: Float32Array,
  from: number,
  rows: number,
  levels: number,
  min: Float32Array,
  scale: Float32Array,
): void {
  const inner = min.length;
  // Until the end `scale` holds the maxima. The rows that fill up the last group are zeros.
  const max = scale;
  for (let i = 0; i < inner; i++) {
    min[i] = rows < GROUP_SIZE ? 0 : values[from + i]!;
    max[i] = min[i]!;
  }
  for (let row = 0, at = from; row < rows; row++, at += inner) {
    for (let i = 0; i < inner; i++) {
      const value = values[at + i]!;
      if (value < min[i]!) min[i] = value;
      if (value > max[i]!) max[i] = value;
    }
  }
  for (let i = 0; i < inner; i++) {
    scale[i] = scaleOf(levels, min[i]!, max[i]!);
    min[i] = clampToFloat16(min[i]!);
  }
}

type Encode = (
  values: Float32Array,
  from: number,
  rows: number,
  min: Float32Array,
  scale: Float32Array,
  data: Uint8Array,
  to: number,
) => void;

const encode8: Encode = (values, from, rows, min, scale, data, to) => {
  const inner = min.length;
  for (let row = 0; row < GROUP_SIZE; row++) {
    for (let i = 0; i < inner; i++) {
      const value = row < rows ? values[from + row * inner + i]! : 0;
      data[to + row * inner + i] = codeOf(value, min[i]!, scale[i]!, 255);
    }
  }
};

const encode4: Encode = (values, from, rows, min, scale, data, to) => {
  const inner = min.length;
  for (let row = 0; row < GROUP_SIZE; row += 2) {
    for (let i = 0; i < inner; i++) {
      const first = row < rows ? values[from + row * inner + i]! : 0;
      const second = row + 1 < rows ? values[from + (row + 1) * inner + i]! : 0;
      const high = codeOf(first, min[i]!, scale[i]!, 15);
      data[to + (row / 2) * inner + i] = (high << 4) | codeOf(second, min[i]!, scale[i]!, 15);
    }
  }
};

/** `row` is the first one's number in the whole array. */
type Decode = (
  data: Uint8Array,
  row: number,
  rows: number,
  inverse: Float64Array,
  min: Float32Array,
  target: Float32Array,
  to: number,
) => void;

// Times the inverse in a double, then rounded: the quotient that float32 arithmetic gives, without a division.
const decode8: Decode = (data, row, rows, inverse, min, target, to) => {
  const inner = inverse.length;
  for (let start = row * inner, into = to; into < to + rows * inner; start += inner, into += inner) {
    for (let i = 0; i < inner; i++) target[into + i] = Math.fround(data[start + i]! * inverse[i]!) + min[i]!;
  }
};

const decode4: Decode = (data, row, rows, inverse, min, target, to) => {
  const inner = inverse.length;
  for (let offset = 0; offset < rows; offset++) {
    const shift = (row + offset) % 2 === 0 ? 4 : 0;
    const start = ((row + offset) >> 1) * inner;
    const into = to + offset * inner;
    for (let i = 0; i < inner; i++) {
      target[into + i] = Math.fround(((data[start + i]! >> shift) & 15) * inverse[i]!) + min[i]!;
    }
  }
};
