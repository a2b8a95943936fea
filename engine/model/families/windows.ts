/** Which layers of a model see a window of the positions before them, and which see all. */
import { EngineError } from '../../errors.js';
import type { Attention, LayerAttention } from '../config.js';
import type { Fields } from '../json.js';
import { unsupported } from './family.js';

const kinds: Readonly<Record<string, boolean>> = { sliding_attention: true, full_attention: false };

/**
 * @param isLocal for the layers in turn, whether they have a window; what `layer_types` says comes before it
 * @returns nothing where all layers see everything
 */
export function hfWindows(
  config: Fields,
  local: LayerAttention,
  isLocal: readonly boolean[],
): Pick<Attention, 'layers'> {
  return windows(local, layerTypes(config) ?? isLocal);
}

/** Layers in turn, those that are local as given. */
export function windows(local: LayerAttention, isLocal: readonly boolean[]): Pick<Attention, 'layers'> {
  if (!isLocal.includes(true)) return {};
  return { layers: isLocal.includes(false) ? isLocal.map((one) => (one ? local : {})) : [local] };
}

/** Of `period` layers, all but the last. */
export function allButLast(period: number): readonly boolean[] {
  return Array.from({ length: period }, (_, layer) => layer < period - 1);
}

/** More than any model has: lists of layers are made for so many at most. */
const MOST_LAYERS = 1000;

/** A count of layers that a list is made for. @throws UNSUPPORTED */
export function layerCount(config: Fields, key: string, fallback?: number): number {
  const count = config.count(key, fallback);
  if (count > MOST_LAYERS) throw unsupported(config.source, key, count, [`1 to ${MOST_LAYERS}`]);
  return count;
}

function layerTypes(config: Fields): readonly boolean[] | undefined {
  if (config.raw('layer_types') == null) return undefined;
  const types = config.texts('layer_types');
  const needed = config.count('num_hidden_layers');
  if (types.length !== needed) {
    throw new EngineError(
      'BAD_WEIGHTS',
      `${config.source}: layer_types: needed one for each of ${needed} layers, found ${types.length}`,
      { path: config.source, needed, found: types.length },
    );
  }
  const unknown = types.find((type) => !Object.hasOwn(kinds, type));
  if (unknown !== undefined) throw unsupported(config.source, 'layer_types', unknown, Object.keys(kinds));
  return types.map((type) => kinds[type]!);
}
