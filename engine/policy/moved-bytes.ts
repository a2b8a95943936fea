/**
 * Bytes that a sweep moves over each link, part by part, as quantities that are linear in the shares of a placement.
 */
import { blocksFor, kvSlotBytes, slotBytes } from '../memory/kv-layout.js';
import { packedRowBytes } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';
import { queryKeySize, valueSize } from '../model/layers.js';
import type { LinkName } from './hardware.js';
import { constant, type Linear, plus, times } from './linear-program.js';
import { type Choice, elsewhere, type FixedUse, kvScale, weightBytes } from './memory-use.js';
import { share } from './placement-program.js';
import { DEFAULT_BUFFERS } from './policy.js';
import type { SweepGroup } from './workload.js';

/**
 * What a sweep does one after the other: the layers; on each of them the attention of the GPU batches behind the first, whose
 * keys and values are read while the one before attends, and not before; and the vocabulary, which few rows meet and which is
 * read no less.
 */
export type PhaseName = 'layers' | 'laterBatches' | 'head';

export type MovedBytes = Readonly<Record<LinkName, Linear>>;

const NOTHING: MovedBytes = {
  diskRead: constant(0),
  diskWrite: constant(0),
  hostToDevice: constant(0),
  deviceToHost: constant(0),
};

/** Of keys and values, and of their attention, what is not the first GPU batch's. The cpu attends beside the device to all. */
export function laterShare({ numGpuBatches, attention }: Choice): number {
  return attention === 'cpu' ? 0 : 1 - 1 / numGpuBatches;
}

/** Of the weights, the vocabulary's share, less what the buffers take of it while the layers are computed. */
export function headShare(config: ModelConfig, { weightType }: Choice, { partBytes }: FixedUse): number {
  const head = config.vocabSize * packedRowBytes(weightType, config.embeddingSize);
  return Math.max(0, head - DEFAULT_BUFFERS * partBytes) / weightBytes(config)[weightType];
}

export function movedBytes(
  config: ModelConfig,
  computeTier: 'gpu' | 'cpu',
  choice: Choice,
  fixed: FixedUse,
  group: SweepGroup,
): Readonly<Record<PhaseName, MovedBytes>> {
  const { promptRows, decodeRows, newcomers, cachedBlocks } = group;
  const rows = promptRows + decodeRows;
  const scale = kvScale(config, choice.kvBits);
  const weights = weightBytes(config)[choice.weightType];
  const [head, later] = [headShare(config, choice, fixed), laterShare(choice)];
  const cached = scale * cachedBlocks * kvSlotBytes(config, 1);
  // A row that is written takes its block with it.
  const blocks = decodeRows + newcomers * blocksFor(promptRows / Math.max(1, newcomers));
  const written = scale * blocks * 2 * slotBytes(config) * config.numLayers;
  const hidden = rows * config.numLayers * config.hiddenSize * 4;
  const embedded = rows * packedRowBytes(choice.weightType, config.embeddingSize);
  const disk: Record<PhaseName, MovedBytes> = {
    layers: {
      ...NOTHING,
      diskRead: plus(
        constant(embedded),
        times((1 - head) * weights, share('weights', 'disk')),
        times((1 - later) * cached, share('kv', 'disk')),
        times(hidden, share('activations', 'disk')),
      ),
      diskWrite: plus(times(written, share('kv', 'disk')), times(hidden, share('activations', 'disk'))),
    },
    laterBatches: { ...NOTHING, diskRead: times(later * cached, share('kv', 'disk')) },
    head: { ...NOTHING, diskRead: times(head * weights, share('weights', 'disk')) },
  };
  if (computeTier === 'cpu') return disk;
  const parked = times(hidden, elsewhere('activations', 'gpu'));
  const crossing = 4 * decodeRows * config.numLayers;
  const [queries, attended] = [queryKeySize(config) + valueSize(config), config.numHeads * config.headDim];
  const [weightsAway, kvAway] = [elsewhere('weights', 'gpu'), elsewhere('kv', 'gpu')];
  // What is attended on the host crosses as queries and results.
  const [up, down] = choice.attention === 'device' ? [cached, 0] : [crossing * attended, crossing * queries];
  return {
    layers: {
      ...disk.layers,
      hostToDevice: plus(
        constant(embedded),
        times((1 - head) * weights, weightsAway),
        times((1 - later) * up, kvAway),
        parked,
      ),
      deviceToHost: plus(times(written + (1 - later) * down, kvAway), parked),
    },
    laterBatches: {
      ...disk.laterBatches,
      hostToDevice: times(later * up, kvAway),
      deviceToHost: times(later * down, kvAway),
    },
    head: { ...disk.head, hostToDevice: times(head * weights, weightsAway) },
  };
}
