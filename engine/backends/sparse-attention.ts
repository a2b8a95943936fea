/**
 * Sparse attention (FlexGen §5): a new token reads the values of the positions with the largest scores only. Their weights
 * are renormalised: the softmax is over those that are kept.
 */
import type { ModelConfig } from '../model/config.js';
import type { GraphBuilder } from './onnx-graph.js';

/** Whether decoding reads fewer values than it sees. */
export function isSparse({ kv }: ModelConfig): boolean {
  return kv?.share !== undefined && kv.share < 1;
}

/**
 * How many positions each slot keeps: the share of those that it sees, rounded up, and one at least. More are kept where
 * scores are equal to the smallest of them.
 *
 * @param mask (slots, positions): 0 where a slot sees a position
 */
export function keptPositions(mask: Float32Array, slots: number, share: number): number[] {
  const width = mask.length / slots;
  return Array.from({ length: slots }, (_, slot) => {
    let seen = 0;
    for (let at = slot * width; at < (slot + 1) * width; at++) if (mask[at] === 0) seen++;
    return Math.max(1, Math.ceil(share * seen));
  });
}

/** Masks the scores below the `kept`-th largest. */
export function keepLargest(scores: Float64Array, kept: number, masked: number): void {
  const least = Float64Array.from(scores).sort().at(-kept)!;
  for (let i = 0; i < scores.length; i++) if (scores[i]! < least) scores[i] = masked;
}

/**
 * The same in a graph.
 *
 * @param scores (slots, ..., positions), masked where a slot does not see
 * @param last as `scores`, with one column: `keptPositions` less one
 */
export function keepLargestNode(graph: GraphBuilder, scores: string, last: string, masked: number): string {
  const all = graph.node('Shape', [scores], { start: -1 });
  const [sorted] = graph.nodes_('TopK', [scores, all], 2, { axis: -1 }) as [string, string];
  const least = graph.node('GatherElements', [sorted, last], { axis: -1 });
  const below = graph.node('Less', [scores, least]);
  const never = graph.constant('float32', [1], Float32Array.of(masked));
  return graph.node('Where', [below, never, scores]);
}
