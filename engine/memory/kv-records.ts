/**
 * Keys and values of some positions of one sequence, by themselves: (layer, keys then values, numKvHeads, positions,
 * headDim), so that what lies together in a cache's block stays together.
 */
import { KV_BLOCK_TOKENS, type KvBlock } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';

/** Positions [from, to) of one slot on one layer. */
export interface RecordRange {
  readonly layer: number;
  readonly slot: number;
  readonly from: number;
  readonly to: number;
}

/** Values of one position, on all layers. */
export function recordValues({ numLayers, numKvHeads, headDim }: ModelConfig): number {
  return 2 * numLayers * numKvHeads * headDim;
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
  const { numKvHeads, headDim } = config;
  const headValues = (to - from) * headDim;
  for (let position = from; position < to; ) {
    const { key, value } = blocks[Math.floor(position / KV_BLOCK_TOKENS)]!;
    const row = position % KV_BLOCK_TOKENS;
    const rows = Math.min(to - position, KV_BLOCK_TOKENS - row);
    for (let part = 0; part < 2; part++) {
      const data = part === 0 ? key : value;
      for (let head = 0; head < numKvHeads; head++) {
        const inBlock = ((slot * numKvHeads + head) * KV_BLOCK_TOKENS + row) * headDim;
        const at = ((2 * layer + part) * numKvHeads + head) * headValues + (position - from) * headDim;
        if (what === 'take') records.set(data.subarray(inBlock, inBlock + rows * headDim), at);
        else data.set(records.subarray(at, at + rows * headDim), inBlock);
      }
    }
    position += rows;
  }
}
