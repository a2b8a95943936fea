/** What a configuration says of one layer's attention. */
import type { LayerAttention, ModelConfig, Rotary } from './config.js';

const everyLayer: readonly LayerAttention[] = [{}];

/** How many positions a row of a decoder layer sees at most, its own included; undefined for all. */
export function windowOf(config: ModelConfig, layer: number): number | undefined {
  return attentionOf(config, layer).window;
}

/** How queries and keys of a decoder layer turn, if they do. */
export function rotaryOf(config: ModelConfig, layer: number): Rotary | undefined {
  const { positions = config.positions } = attentionOf(config, layer);
  return positions.kind === 'rotary' ? positions : undefined;
}

/** Multiplies the scores of attention. */
export function attentionScale({ attention, headDim }: ModelConfig): number {
  return attention?.scale ?? 1 / Math.sqrt(headDim);
}

/** Every window that some layer has, undefined for layers that see everything. */
export function windowsOf(config: ModelConfig): ReadonlySet<number | undefined> {
  return new Set(layersOf(config).map(({ window }) => window));
}

function attentionOf(config: ModelConfig, layer: number): LayerAttention {
  const layers = layersOf(config);
  return layers[layer % layers.length]!;
}

function layersOf({ attention }: ModelConfig): readonly LayerAttention[] {
  return attention?.layers ?? everyLayer;
}
