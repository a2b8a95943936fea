/**
 * Keys and values of some positions of one sequence, by themselves: (layer, keys then values, numKvHeads, plane, positions,
 * units), so that what lies together in a cache's block stays together.
 */
import { KV_BLOCK_TOKENS, type KvBlock } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { kvPlanes, kvRowUnits } from './kv-form.js';
import { slotValues } from './kv-layout.js';

/** Positions [from, to) of one slot on one layer. */
export interface RecordRange {
  readonly layer: number;
  readonly slot: number;
  readonly from: number;
  readonly to: number;
}

/** Float32 units of one position, on all layers. */
export function recordValues(config: ModelConfig): number {
  return 2 * config.numLayers * config.numKvHeads * kvRowUnits(config);
}

/** Bytes of one position, on all layers. */
export function recordBytes(config: ModelConfig): number {
  return recordValues(config) * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * @param what `take` fills the records from the blocks, `put` the blocks from the records
 * @param records of these positions and no others, on all layers
 */
export function copyRecords(
  what: 'take' | 'put',
  config: ModelConfig,
  blocks: readonly KvBlock[],
  { layer, slot, from, to }: RecordRange,
  records: Float32Array,
): void {
  const { numKvHeads } = config;
  const [planes, rowUnits] = [kvPlanes(config), kvRowUnits(config)];
  const slotStart = slot * slotValues(config);
  for (let position = from; position < to; ) {
    const { key, value } = blocks[Math.floor(position / KV_BLOCK_TOKENS)]!;
    const row = position % KV_BLOCK_TOKENS;
    const rows = Math.min(to - position, KV_BLOCK_TOKENS - row);
    for (let part = 0; part < 2; part++) {
      const data = part === 0 ? key : value;
      for (let head = 0; head < numKvHeads; head++) {
        let planeAt = ((2 * layer + part) * numKvHeads + head) * (to - from) * rowUnits;
        for (const { start, units } of planes) {
          const inBlock = slotStart + start + (head * KV_BLOCK_TOKENS + row) * units;
          const at = planeAt + (position - from) * units;
          if (what === 'take') records.set(data.subarray(inBlock, inBlock + rows * units), at);
          else data.set(records.subarray(at, at + rows * units), inBlock);
          planeAt += (to - from) * units;
        }
      }
    }
    position += rows;
  }
}
