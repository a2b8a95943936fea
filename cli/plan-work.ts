/** What a plan is made for: a pipeline's dataset, whose tokens are counted, or lengths that are given. */

import { InputError } from '../datasets/errors.js';
import type { PromptRequest } from '../datasets/requests.js';
import type { Pipeline } from '../datasets/spec.js';
import type { EngineSettings } from '../datasets/spec-engine.js';
import type { ModelConfig } from '../engine/model/config.js';
import { namedShapes } from '../engine/model/named-shapes.js';
import { type OpenModel, openModel } from '../engine/model/open.js';
import type { Workload } from '../engine/policy/workload.js';
import { cacheDirectory } from './bootstrap.js';
import { obtainModel } from './model-pull.js';
import { findModel } from './model-store.js';
import { note } from './print.js';

export interface PlanWork {
  readonly model: string;
  readonly config: ModelConfig;
  readonly workload: Workload;
  readonly engine: Partial<EngineSettings>;
}

export interface GivenLengths {
  readonly model: string;
  readonly promptLen: number;
  readonly genLen: number;
  readonly numSequences: number;
}

/** @throws InputError if the model is no shape and is not here, or the lengths exceed its context */
export async function givenWork({ model, promptLen, genLen, numSequences }: GivenLengths): Promise<PlanWork> {
  const config = namedShapes.get(model) ?? (await configOf(model));
  const contextTokens = promptLen + genLen;
  if (contextTokens > config.maxPositions) {
    throw new InputError(
      `--prompt-len ${promptLen} and --gen-len ${genLen} take ${contextTokens} tokens, and the context of ${model} holds ` +
        `${config.maxPositions}; shorten one of them`,
    );
  }
  const workload = { numSequences, promptTokens: promptLen, newTokens: genLen, contextTokens };
  return { model, config, workload, engine: {} };
}

/** Renders and counts all prompts, as planning a run does. */
export async function pipelineWork(pipeline: Pipeline): Promise<PlanWork> {
  const [{ promptRows }, { modelText }] = await Promise.all([
    import('../datasets/requests.js'),
    import('../activities/plan.js'),
  ]);
  const path = await obtainModel(pipeline.model, { report: note });
  const model = await openModel(path, { cacheDir: cacheDirectory() });
  try {
    const { config } = model.weights;
    const workload = await workloadOf(promptRows(pipeline, modelText(model, path)), model, config);
    return { model: pipeline.model, config, workload, engine: pipeline.engine };
  } finally {
    await model.weights.close();
  }
}

async function workloadOf(
  requests: AsyncIterable<PromptRequest>,
  { tokenizer }: OpenModel,
  config: ModelConfig,
): Promise<Workload> {
  const total = { sequences: 0, prompt: 0, generated: 0, longest: 1 };
  for await (const { row, ask } of requests) {
    if (row.error !== null) continue;
    // Options are computed with their question, and nothing is generated.
    const scored = row.options === null ? 0 : await tokensOf(row.options, tokenizer);
    const prompt = row.promptTokens + scored;
    const generated = ask.kind === 'generate' ? Math.min(ask.maxNewTokens, config.maxPositions - prompt) : 1;
    total.sequences++;
    total.prompt += prompt;
    total.generated += generated;
    total.longest = Math.max(total.longest, prompt + generated);
  }
  if (total.sequences === 0)
    throw new InputError('the pipeline has no row that can be asked; there is nothing to plan');
  return {
    numSequences: total.sequences,
    promptTokens: total.prompt / total.sequences,
    newTokens: total.generated / total.sequences,
    contextTokens: Math.min(config.maxPositions, total.longest),
  };
}

async function tokensOf(texts: readonly string[], tokenizer: OpenModel['tokenizer']): Promise<number> {
  let tokens = 0;
  for (const text of texts) tokens += (await tokenizer!.encode(text)).length;
  return tokens;
}

async function configOf(reference: string): Promise<ModelConfig> {
  const path = findModel(reference);
  if (path === undefined) {
    const shapes = [...namedShapes.keys()].join(', ');
    throw new InputError(`--model ${reference}: it is not here, and no shape is called so; the shapes are ${shapes}`);
  }
  const { weights } = await openModel(path, { cacheDir: cacheDirectory() });
  await weights.close();
  return weights.config;
}
