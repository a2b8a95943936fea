/** Which tensors a model is made of, and their shapes: all that a file must hold before anything is computed. */
import type { ModelConfig } from './config.js';
import { denseFfnSize } from './layers.js';

/** A tensor by the engine's name (weights.ts), with its shape: (out, in) or (size). */
export type NamedShape = readonly [name: string, shape: readonly number[]];

/** In the order in which they are needed; one by one, since a damaged configuration may ask for any number of layers. */
export function* tensorShapes(config: ModelConfig): Generator<NamedShape> {
  const { hiddenSize, embeddingSize, vocabSize, numLayers, positions } = config;
  yield ['embed.tokens.weight', [vocabSize, embeddingSize]];
  if (positions.kind === 'learned')
    yield ['embed.positions.weight', [config.maxPositions + positions.offset, hiddenSize]];
  if (embeddingSize !== hiddenSize) yield ['embed.project.weight', [hiddenSize, embeddingSize]];
  for (let layer = 0; layer < numLayers; layer++) yield* layerShapes(config, `layers.${layer}`);
  if (config.finalNorm) yield* normShapes(config, 'final.norm');
  if (embeddingSize !== hiddenSize) yield ['head.project.weight', [embeddingSize, hiddenSize]];
  if (!config.tiedEmbeddings) yield ['head.tokens.weight', [vocabSize, embeddingSize]];
}

function* layerShapes(config: ModelConfig, layer: string): Generator<NamedShape> {
  const { hiddenSize, headDim, ffnSize, bias, norm, attention, experts } = config;
  const queryRows = config.numHeads * headDim;
  const kvRows = config.numKvHeads * headDim;
  yield* normShapes(config, `${layer}.attentionNorm`);
  yield* productShapes(`${layer}.query`, [queryRows, hiddenSize], bias.qkv);
  yield* productShapes(`${layer}.key`, [kvRows, hiddenSize], bias.qkv);
  yield* productShapes(`${layer}.value`, [kvRows, hiddenSize], bias.qkv);
  if (attention?.queryKeyNorm)
    yield* ['query', 'key'].map((name): NamedShape => [`${layer}.${name}Norm.weight`, [headDim]]);
  yield* productShapes(`${layer}.output`, [hiddenSize, queryRows], bias.output);
  if (norm.placement === 'both') yield* normShapes(config, `${layer}.attentionOutNorm`);
  yield* normShapes(config, `${layer}.ffnNorm`);
  if (denseFfnSize(config) > 0) yield* ffnShapes(config, layer, denseFfnSize(config));
  if (experts) {
    yield [`${layer}.router.weight`, [experts.count, hiddenSize]];
    if (experts.sharedSize !== undefined) yield [`${layer}.shared.weight`, [1, hiddenSize]];
    for (let expert = 0; expert < experts.count; expert++) {
      yield* ffnShapes(config, `${layer}.experts.${expert}`, ffnSize);
    }
  }
  if (norm.placement === 'both') yield* normShapes(config, `${layer}.ffnOutNorm`);
}

function* ffnShapes({ hiddenSize, ffn, bias }: ModelConfig, network: string, size: number): Generator<NamedShape> {
  if (ffn.kind === 'gated') yield* productShapes(`${network}.gate`, [size, hiddenSize], bias.ffn);
  yield* productShapes(`${network}.up`, [size, hiddenSize], bias.ffn);
  yield* productShapes(`${network}.down`, [hiddenSize, size], bias.ffn);
}

function* normShapes(config: ModelConfig, name: string): Generator<NamedShape> {
  yield [`${name}.weight`, [config.hiddenSize]];
  if (config.norm.kind === 'layer') yield [`${name}.bias`, [config.hiddenSize]];
}

function* productShapes(name: string, shape: readonly [number, number], hasBias: boolean): Generator<NamedShape> {
  yield [`${name}.weight`, shape];
  if (hasBias) yield [`${name}.bias`, [shape[0]]];
}
