/** Attention of a newcomer's own rows, to themselves and to the rows elsewhere that hold its first positions. */
import type { Backend } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import type { Sequence } from '../sequence.js';
import type { RowSources } from './row-ranges.js';
import { chainOf, type SharedPrefix } from './shared-prefix.js';
import { ATTENTION_TILE, causalMask, treeMask } from './token-tree.js';

/** Rows [start, end) of the cell, behind first positions that lie elsewhere. */
export interface PromptRows {
  readonly sequence: Sequence;
  readonly shared: SharedPrefix;
  readonly start: number;
  readonly end: number;
}

export interface PromptOptions {
  readonly config: ModelConfig;
  /** Positions that one sees at most on this layer, its own included. */
  readonly window: number | undefined;
}

/** @returns (own rows, numHeads * headDim) */
export async function attendPrompt(
  backend: Backend,
  { sequence, shared, start, end }: PromptRows,
  sources: RowSources,
  { config, window }: PromptOptions,
): Promise<Float32Array> {
  const [width, valueWidth] = [queryKeySize(config), valueSize(config)];
  const { queryKey: keys, value: values } = sources.join([...shared.ranges, { start, end }]);
  const attendedWidth = config.numHeads * config.headDim;
  const attended = new Float32Array((end - start) * attendedWidth);
  const put = (rows: Float32Array, position: number) => attended.set(rows, (position - shared.length) * attendedWidth);
  const count = shared.length + end - start;
  // A whole tree is one call; rows that a window hides are left out only where they follow one another.
  const chain = sequence.kind === 'score' && window === undefined ? 0 : Math.min(count, chainOf(sequence).length);
  // Tiles begin at the same positions with and without a shared prefix: sums then round alike.
  for (let from = 0; from < chain; from += ATTENTION_TILE) {
    const to = Math.min(chain, from + ATTENTION_TILE);
    const own = Math.max(from, shared.length);
    if (own >= to) continue;
    // What no row of the tile sees is not looked at.
    const first = Math.max(0, from + 1 - (window ?? Number.POSITIVE_INFINITY));
    const tile = await backend.attendRows(
      keys.subarray(own * width, to * width),
      keys.subarray(first * width, to * width),
      values.subarray(first * valueWidth, to * valueWidth),
      causalMask(own - first, to - own, window),
    );
    put(tile, own);
  }
  if (sequence.kind === 'score' && chain < count) {
    const own = Math.max(chain, shared.length);
    const mask = treeMask(sequence.tree.parents, window).subarray(own * count);
    put(await backend.attendRows(keys.subarray(own * width), keys, values, mask), own);
  }
  return attended;
}
