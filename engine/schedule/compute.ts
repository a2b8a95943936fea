/**
 * One layer after another, whether its weights lie in memory or stream by: what the loop asks for in each sweep.
 */
import type { Backend, HeadResult, KeptLayer, LayerWeights, Projection, Targets } from '../backends/backend.js';
import { gatherRows, type PackedMatrix, widen } from '../memory/packed.js';
import type { ModelConfig } from '../model/config.js';

/** What is wanted of the logits of some rows, over the whole vocabulary. */
export interface LogitsRequest {
  /** (rows, hiddenSize), as the last layer left them. */
  readonly hidden: Float32Array;
  readonly top: number;
  readonly targets?: Targets;
  readonly all?: boolean;
}

export interface LayerCompute {
  /** Embeddings of the tokens at their positions: (rows, hiddenSize). */
  embed(tokens: Int32Array, positions: Int32Array): Promise<Float32Array>;
  /** @param layer of the decoder, from 0 */
  project(layer: number, hidden: Float32Array, positions: Int32Array): Promise<Projection>;
  finish(layer: number, hidden: Float32Array, attended: Float32Array): Promise<Float32Array>;
  /** Once in every sweep, whether or not any row needs logits: weights that stream by pass here too. */
  logits(request: LogitsRequest | undefined): Promise<HeadResult | undefined>;
  /** After a sweep that was given up in the middle. */
  rewind(): Promise<void>;
}

/**
 * All weights in memory; the backend holds those of the decoder.
 * @param load of a step's weights: the embedding's first, the head's last. One layer's are held twice at a time.
 */
export async function residentCompute(
  backend: Backend,
  config: ModelConfig,
  load: (step: number) => Promise<LayerWeights>,
): Promise<LayerCompute> {
  const embedding = await load(0);
  const kept: KeptLayer[] = [];
  for (let layer = 0; layer < config.numLayers; layer++) kept.push(await backend.keep(layer, await load(layer + 1)));
  const head = await load(config.numLayers + 1);
  return {
    async embed(tokens, positions) {
      const gathered = gatherRows(embedding.tokens!, tokens);
      return placeRows(backend, config, gathered, positions, embedding);
    },
    project: (layer, hidden, positions) => kept[layer]!.project(hidden, positions),
    finish: (layer, hidden, attended) => kept[layer]!.finish(hidden, attended),
    async logits(request) {
      if (!request) return undefined;
      const { hidden, ...wanted } = request;
      return backend.head(head.tokens!, { input: await headInput(backend, hidden, head), ...wanted });
    },
    rewind: async () => {},
  };
}

/** Embeddings to the hidden size, scaled, with learned positions where the model has them. @param gathered is overwritten */
export async function placeRows(
  backend: Backend,
  config: ModelConfig,
  gathered: Float32Array,
  positions: Int32Array,
  { project, positions: table }: { readonly project?: PackedMatrix; readonly positions?: PackedMatrix },
): Promise<Float32Array> {
  const { embeddingScale } = config;
  if (embeddingScale !== undefined) for (let i = 0; i < gathered.length; i++) gathered[i]! *= embeddingScale;
  const hidden = project ? await backend.multiply(gathered, project) : gathered;
  if (config.positions.kind !== 'learned') return hidden;
  const { offset } = config.positions;
  const learned = gatherRows(
    table!,
    positions.map((position) => position + offset),
  );
  for (let i = 0; i < hidden.length; i++) hidden[i]! += learned[i]!;
  return hidden;
}

/** What the vocabulary is multiplied with. */
export async function headInput(
  backend: Backend,
  hidden: Float32Array,
  { norm, normBias, project }: Pick<LayerWeights, 'norm' | 'normBias' | 'project'>,
): Promise<Float32Array> {
  const normed = norm ? await backend.norm(hidden, widen(norm), normBias && widen(normBias)) : hidden;
  return project ? backend.multiply(normed, project) : normed;
}
