/** Which tensors a model is made of, and their shapes: all that a file must hold before anything is computed. */
import type { ModelConfig } from './config.js';

/** The engine's names (weights.ts) with their shapes, (out, in) or (size), in the order in which they are needed. */
export function tensorShapes(config: ModelConfig): ReadonlyMap<string, readonly number[]> {
  const { hiddenSize, embeddingSize, vocabSize, numLayers, positions } = config;
  const shapes = new Map<string, readonly number[]>([['embed.tokens.weight', [vocabSize, embeddingSize]]]);
  if (positions.kind === 'learned')
    shapes.set('embed.positions.weight', [config.maxPositions + positions.offset, hiddenSize]);
  if (embeddingSize !== hiddenSize) shapes.set('embed.project.weight', [hiddenSize, embeddingSize]);
  for (let layer = 0; layer < numLayers; layer++) addLayer(shapes, config, `layers.${layer}`);
  if (config.finalNorm) addNorm(shapes, config, 'final.norm');
  if (embeddingSize !== hiddenSize) shapes.set('head.project.weight', [embeddingSize, hiddenSize]);
  if (!config.tiedEmbeddings) shapes.set('head.tokens.weight', [vocabSize, embeddingSize]);
  return shapes;
}

function addLayer(shapes: Map<string, readonly number[]>, config: ModelConfig, layer: string): void {
  const { hiddenSize, headDim, ffnSize, bias } = config;
  const queryRows = config.numHeads * headDim;
  const kvRows = config.numKvHeads * headDim;
  addNorm(shapes, config, `${layer}.attentionNorm`);
  addProduct(shapes, `${layer}.query`, [queryRows, hiddenSize], bias.qkv);
  addProduct(shapes, `${layer}.key`, [kvRows, hiddenSize], bias.qkv);
  addProduct(shapes, `${layer}.value`, [kvRows, hiddenSize], bias.qkv);
  addProduct(shapes, `${layer}.output`, [hiddenSize, queryRows], bias.output);
  addNorm(shapes, config, `${layer}.ffnNorm`);
  if (config.ffn.kind === 'gated') addProduct(shapes, `${layer}.gate`, [ffnSize, hiddenSize], bias.ffn);
  addProduct(shapes, `${layer}.up`, [ffnSize, hiddenSize], bias.ffn);
  addProduct(shapes, `${layer}.down`, [hiddenSize, ffnSize], bias.ffn);
}

function addNorm(shapes: Map<string, readonly number[]>, config: ModelConfig, name: string): void {
  shapes.set(`${name}.weight`, [config.hiddenSize]);
  if (config.norm.kind === 'layer') shapes.set(`${name}.bias`, [config.hiddenSize]);
}

function addProduct(
  shapes: Map<string, readonly number[]>,
  name: string,
  shape: readonly [number, number],
  hasBias: boolean,
): void {
  shapes.set(`${name}.weight`, shape);
  if (hasBias) shapes.set(`${name}.bias`, [shape[0]]);
}
