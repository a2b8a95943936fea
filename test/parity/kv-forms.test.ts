import { describe, expect, it } from 'vitest';
import type { KvBlock } from '../../engine/backends/backend.js';
import { KV_BLOCK_TOKENS } from '../../engine/backends/backend.js';
import { openOnnx } from '../../engine/backends/onnx.js';
import { openReference } from '../../engine/backends/reference.js';
import { kvWriter, readKv } from '../../engine/memory/kv-form.js';
import { lengthMask, putRows, slotValues } from '../../engine/memory/kv-layout.js';
import { copyRecords, recordValues } from '../../engine/memory/kv-records.js';
import { dequantize, quantize } from '../../engine/memory/quantize.js';
import type { KvReading, ModelConfig } from '../../engine/model/config.js';
import { queryKeySize, valueSize } from '../../engine/model/layers.js';
import { seededRandom } from '../../engine/model/random.js';
import { tinyModels } from '../support/tiny-models.js';

const random = seededRandom(11);
const values = (count: number) => Float32Array.from({ length: count }, () => 4 * random.next() - 2);
/** Sequences end within a block, at its end, and behind it; one slot was never written. */
const LENGTHS = [40, KV_BLOCK_TOKENS, 3];
const SLOTS = LENGTHS.length;

function shapeOf(headDim: number, kv: KvReading): ModelConfig {
  return { ...tinyModels.llama!, numLayers: 1, numHeads: 6, numKvHeads: 2, headDim, kv };
}

function filled(config: ModelConfig): KvBlock[] {
  const blocks = [0, 1].map(() => {
    const size = (SLOTS + 1) * slotValues(config);
    return { key: new Float32Array(size), value: new Float32Array(size) };
  });
  for (const [slot, length] of LENGTHS.entries()) {
    const rows = { queryKey: values(length * queryKeySize(config)), value: values(length * valueSize(config)) };
    putRows(config, blocks, rows, { slot, position: 0, start: 0, end: length });
  }
  return blocks;
}

const forms: [number, KvReading][] = [8, 64, 80].flatMap((headDim) =>
  [{}, { bits: 16 }, { bits: 8 }, { bits: 4 }, { share: 0.3 }, { bits: 4, share: 0.1 }].map(
    (kv): [number, KvReading] => [headDim, kv as KvReading],
  ),
);

describe.each(forms)('a cache with heads of %i, kept and read as %o', (headDim, kv) => {
  const config = shapeOf(headDim, kv);

  it('is attended to by ONNX Runtime as by the reference, and by each slot alone', async () => {
    const blocks = filled(config);
    const queries = values(SLOTS * queryKeySize(config));
    const mask = lengthMask(LENGTHS);
    const reference = await openReference(config, { threads: 1 });
    const onnx = await openOnnx(config, { threads: 1 });
    const expected = await reference.attendCache(queries, blocks, SLOTS, mask);
    const found = await onnx.attendCache(queries, blocks, SLOTS, mask);
    expect(found).toHaveLength(expected.length);
    found.forEach((value, i) => {
      expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-5);
    });
    const alone = await onnx.attendCache(
      queries.subarray(0, queryKeySize(config)),
      blocks,
      1,
      mask.subarray(0, mask.length / SLOTS),
    );
    expect(alone).toEqual(found.slice(0, alone.length));
    await onnx.close();
  });

  it('is attended to by all slots at once where their first blocks are the same, to the last bit', async () => {
    const blocks = filled(config);
    const size = slotValues(config);
    for (const part of ['key', 'value'] as const) {
      for (let slot = 1; slot < SLOTS; slot++) blocks[0]![part].copyWithin(slot * size, 0, size);
    }
    const queries = values(SLOTS * queryKeySize(config));
    // The second block belongs to one of them only, but for the case in which there is no other.
    for (const [own, lengths] of [
      [blocks, [40, KV_BLOCK_TOKENS, KV_BLOCK_TOKENS]],
      [blocks.slice(0, 1), [KV_BLOCK_TOKENS, 20, 3]],
    ] as const) {
      const onnx = await openOnnx(config, { threads: 2 });
      const apart = await onnx.attendCache(queries, own, SLOTS, lengthMask(lengths));
      if (onnx.sharesBlocks) expect(await onnx.attendCache(queries, own, SLOTS, lengthMask(lengths), 1)).toEqual(apart);
      else expect(kv.bits).toBeLessThan(16);
      await onnx.close();
    }
  });

  it('gives positions to records, and takes them back, bit by bit', () => {
    const blocks = filled(config);
    const records = new Float32Array(30 * recordValues(config));
    copyRecords('take', config, blocks, { layer: 0, slot: 0, from: 7, to: 37 }, records);
    const copy = [0, 1].map(() => {
      const size = (SLOTS + 1) * slotValues(config);
      return { key: new Float32Array(size), value: new Float32Array(size) };
    });
    copyRecords('put', config, copy, { layer: 0, slot: 2, from: 7, to: 37 }, records);
    for (let position = 7; position < 37; position++) {
      const at = (slot: number) => ({ slot, head: 1, row: position % KV_BLOCK_TOKENS });
      const block = Math.floor(position / KV_BLOCK_TOKENS);
      expect(readKv(config, copy[block]!.key, at(2))).toEqual(readKv(config, blocks[block]!.key, at(0)));
      expect(readKv(config, copy[block]!.value, at(2))).toEqual(readKv(config, blocks[block]!.value, at(0)));
    }
  });
});

describe.each([8, 4] as const)('keys of %i bits', (bits) => {
  it.each([16, 64, 80])("are those of FlexGen's quantisation, heads of %i", (headDim) => {
    const config = shapeOf(headDim, { bits });
    const block = new Float32Array(slotValues(config));
    const place = { slot: 0, head: 1, row: 5 };
    const key = values(headDim);
    kvWriter(config)(block, place, key, 0);
    expect(readKv(config, block, place)).toEqual(dequantize(quantize(key, [1, headDim], 1, bits)));
  });
});

describe('sparse attention', () => {
  it('reads the values of the most probable positions, with weights that make one', async () => {
    const config = { ...shapeOf(2, { share: 0.5 }), numHeads: 1, numKvHeads: 1, attention: { scale: 1 } };
    const size = slotValues(config);
    const block = { key: new Float32Array(size), value: new Float32Array(size) };
    // Scores 1, 3, 2, 0 and values 10, 20, 30, 40: the second and the third are kept.
    const rows = {
      queryKey: Float32Array.of(0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0),
      value: Float32Array.of(10, 0, 20, 0, 30, 0, 40, 0),
    };
    putRows(config, [block], rows, { slot: 0, position: 0, start: 0, end: 4 });
    const expected = (20 * Math.exp(3) + 30 * Math.exp(2)) / (Math.exp(3) + Math.exp(2));
    for (const open of [openReference, openOnnx]) {
      const backend = await open(config, { threads: 1 });
      const [found] = await backend.attendCache(Float32Array.of(1, 0, 0, 0), [block], 1, lengthMask([4]));
      expect(found).toBeCloseTo(expected, 4);
      await backend.close();
    }
  });
});
