/**
 * How the cache holds the keys, or values, of one head at one position: float32, float16, or group-wise codes of 8 or 4
 * bits along headDim (FlexGen §5; `quantize.ts`). What is written is not written again, and depends on nothing beside it.
 *
 * Whatever the form, a block is an array of float32 units, so that caches, disks and checkpoints move them as they are. A
 * slot's units are planes one after the other, each (numKvHeads, KV_BLOCK_TOKENS, units): codes, then scales with minima.
 */
import { KV_BLOCK_TOKENS } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { float16 } from '../model/dequantise.js';
import { float16Bits } from './float16.js';
import { GROUP_SIZE, type QuantizedBits } from './quantize-groups.js';
import { decodeLine, encodeLine } from './quantize-lines.js';

/** Units of one head at one position, and where in a slot the first of them is. */
export interface KvPlane {
  readonly start: number;
  readonly units: number;
}

/** Where a head's position lies. */
export interface KvPlace {
  readonly slot: number;
  readonly head: number;
  /** Within the block. */
  readonly row: number;
}

export function kvPlanes(config: ModelConfig): readonly KvPlane[] {
  const { numKvHeads, headDim, kv } = config;
  const rows = numKvHeads * KV_BLOCK_TOKENS;
  switch (kv?.bits) {
    case undefined:
      return [{ start: 0, units: headDim }];
    case 16:
      return [{ start: 0, units: Math.ceil(headDim / 2) }];
    default: {
      const groups = kvGroups(config);
      const codes = (groups * GROUP_SIZE * kv!.bits!) / 32;
      return [
        { start: 0, units: codes },
        { start: rows * codes, units: groups },
      ];
    }
  }
}

/** Units of one head at one position, of all planes. */
export function kvRowUnits(config: ModelConfig): number {
  return kvPlanes(config).reduce((sum, { units }) => sum + units, 0);
}

/** Groups that a head's keys are padded to. */
export function kvGroups({ headDim }: ModelConfig): number {
  return Math.ceil(headDim / GROUP_SIZE);
}

/** Writes the headDim values that begin at `from`. */
export type WriteKv = (block: Float32Array, place: KvPlace, values: Float32Array, from: number) => void;

export function kvWriter(config: ModelConfig): WriteKv {
  const { headDim, kv } = config;
  const at = placer(config);
  switch (kv?.bits) {
    case undefined:
      return (block, place, values, from) => {
        const to = at(place, 0);
        for (let i = 0; i < headDim; i++) block[to + i] = values[from + i]!;
      };
    case 16: {
      const [one, bits] = sharedScratch();
      const viewed = latest(halvesOf);
      return (block, place, values, from) => {
        const halves = viewed(block);
        const to = 2 * at(place, 0);
        for (let i = 0; i < headDim; i++) {
          one[0] = values[from + i]!;
          halves[to + i] = float16Bits(bits[0]!);
        }
      };
    }
    default: {
      const groups = codeArrays(config);
      const [codes, factors] = [wordsOf(groups.data), new Uint32Array(groups.scale.length)];
      const viewed = latest(wordsOf);
      return (block, place, values, from) => {
        encodeLine(values, from, groups, { group: 0, inner: 1, start: 0, end: headDim });
        for (let i = 0; i < factors.length; i++) factors[i] = groups.scale[i]! | (groups.min[i]! << 16);
        // As integers: a float32 of any bits might be changed on its way.
        const words = viewed(block);
        words.set(codes, at(place, 0));
        words.set(factors, at(place, 1));
      };
    }
  }
}

/** Reads what `kvWriter` wrote, as float32: (headDim). */
export function readKv(config: ModelConfig, block: Float32Array, place: KvPlace): Float32Array {
  const { headDim, kv } = config;
  const at = placer(config);
  const start = at(place, 0);
  if (kv?.bits === undefined) return block.subarray(start, start + headDim);
  if (kv.bits === 16)
    return Float32Array.from({ length: headDim }, (_, i) => float16[halvesOf(block)[2 * start + i]!]!);
  const groups = codeArrays(config);
  const words = wordsOf(block);
  wordsOf(groups.data).set(words.subarray(start, start + groups.data.length / 4));
  groups.scale.forEach((_, i) => {
    const factor = words[at(place, 1) + i]!;
    // Where nothing was written yet there is none, and a quotient would be no number.
    groups.scale[i] = Math.max(SMALLEST_FLOAT16, factor & 0xffff);
    groups.min[i] = factor >>> 16;
  });
  const values = new Float32Array(headDim);
  decodeLine(groups, { group: 0, inner: 1, start: 0, end: headDim }, values, 0);
  return values;
}

/** Its bits. */
const SMALLEST_FLOAT16 = 1;

/** Where a place begins in a plane, in units. */
function placer(config: ModelConfig): (place: KvPlace, plane: number) => number {
  const planes = kvPlanes(config);
  const { numKvHeads } = config;
  const slotUnits = numKvHeads * KV_BLOCK_TOKENS * kvRowUnits(config);
  return ({ slot, head, row }, plane) =>
    slot * slotUnits + planes[plane]!.start + (head * KV_BLOCK_TOKENS + row) * planes[plane]!.units;
}

/** Of one head at one position. */
function codeArrays(config: ModelConfig) {
  const bits = config.kv!.bits as QuantizedBits;
  const groups = kvGroups(config);
  const data = new Uint8Array((groups * GROUP_SIZE * bits) / 8);
  return { bits, data, scale: new Uint16Array(groups), min: new Uint16Array(groups) };
}

/** Of one array after another many places are written. */
function latest<View>(view: (array: Float32Array) => View): (array: Float32Array) => View {
  let known: { readonly array: Float32Array; readonly view: View } | undefined;
  return (array) => {
    if (known?.array !== array) known = { array, view: view(array) };
    return known.view;
  };
}

function sharedScratch(): [Float32Array, Int32Array] {
  const one = new Float32Array(1);
  return [one, new Int32Array(one.buffer)];
}

function wordsOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint32Array {
  return new Uint32Array(buffer, byteOffset, byteLength / 4);
}

function halvesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint16Array {
  return new Uint16Array(buffer, byteOffset, byteLength / 2);
}
