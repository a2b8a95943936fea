/** The activities that need no device: making the run directory, planning, reporting. */
import { cancellationSignal } from '@temporalio/activity';
import { InputError } from '../datasets/errors.js';
import { type ModelText, type PromptRequest, promptRows } from '../datasets/requests.js';
import { type Manifest, readManifest, writeShards } from '../datasets/shard.js';
import { loadPipeline } from '../datasets/spec.js';
import { type OpenModel, openModel } from '../engine/model/open.js';
import { removeCheckpoints } from './claim.js';
import type { PlanActivities, PlanInput, PlannedRun, PrepareInput, RunInput } from './contracts.js';
import { explainingFailures } from './failures.js';
import { withHeartbeat } from './heartbeat.js';
import { removePartsFrom } from './parts.js';
import { reportRun } from './report.js';
import { prepareRunDirectory, readRunFile, runInputOf } from './run-file.js';

export interface PlanOptions {
  /** Where sums of files are remembered. */
  readonly cacheDir: string;
  /** From a model's name to its file on this machine. */
  readonly resolveModel: (reference: string) => string;
}

export function createPlanActivities(options: PlanOptions): PlanActivities {
  const attended = <T>(act: () => Promise<T>) => explainingFailures(() => withHeartbeat(act));
  return {
    prepareRun: (input) => attended(() => prepareRun(input, options)),
    planRun: (input) => attended(() => planRun(input, options)),
    reportRun: (input) => attended(() => reportRun(input)),
  };
}

async function prepareRun({ pipeline: reference, runDir }: PrepareInput, options: PlanOptions): Promise<RunInput> {
  const { path, overrides, limit } = reference;
  const pipeline = loadPipeline(path, { overrides, runDir, ...(limit === undefined ? {} : { limit }) });
  const modelPath = options.resolveModel(pipeline.model);
  const words = overrides.map((override) => ` --set ${override}`).join('');
  const command = `zigzag run ${path}${words}${limit === undefined ? '' : ` --limit ${limit}`} --run-dir ${runDir}`;
  return runInputOf(await prepareRunDirectory({ pipeline, modelPath, cacheDir: options.cacheDir, command }));
}

async function planRun({ run, firstShard, maxShards }: PlanInput, options: PlanOptions): Promise<PlannedRun> {
  const { rows, shards } = await manifestOf(run, options);
  return { rows, shardCount: shards.length, shards: shards.slice(firstShard, firstShard + maxShards) };
}

async function manifestOf(run: RunInput, { cacheDir }: PlanOptions): Promise<Manifest> {
  const file = readRunFile(run.runDir);
  if (file.fingerprint !== run.fingerprint) throw replaced(run);
  const manifest = readManifest(run.runDir);
  if (manifest?.fingerprint === run.fingerprint) return manifest;
  const model = await openModel(file.modelPath, { cacheDir });
  try {
    const planned = await writeShards({
      requests: untilCancelled(promptRows(file.pipeline, modelText(model, file.modelPath))),
      runDir: run.runDir,
      fingerprint: run.fingerprint,
      shardRows: file.pipeline.shardRows,
    });
    removePartsFrom(run.runDir, planned.shards.length);
    removeCheckpoints(run.runDir);
    return planned;
  } finally {
    await model.weights.close();
  }
}

/** The directory was given to another run while this one's workflow was under way. */
export function replaced({ runDir, name }: RunInput): InputError {
  return new InputError(`${runDir}: its run.json is no longer that of this run of ${name}; run the command again`);
}

/** @throws InputError if the model has no tokenizer */
export function modelText({ tokenizer, chatTemplate }: OpenModel, modelPath: string): ModelText {
  if (!tokenizer) {
    throw new InputError(`${modelPath}: the model has no tokenizer, so it cannot be asked texts; choose one that has`);
  }
  return {
    chatTemplate: chatTemplate ?? null,
    bosToken: tokenizer.bosToken ?? '',
    eosToken: tokenizer.eosToken ?? '',
    countTokens: (texts) => Promise.all(texts.map(async (text) => (await tokenizer.encode(text)).length)),
  };
}

async function* untilCancelled(requests: AsyncIterable<PromptRequest>): AsyncGenerator<PromptRequest> {
  const signal = cancellationSignal();
  for await (const request of requests) {
    signal.throwIfAborted();
    yield request;
  }
}
