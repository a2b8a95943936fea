/**
 * `run.json`: what a run directory is for. Written before the workflow starts; whoever finds another run there refuses.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { writeFileAtomic } from '../datasets/files.js';
import type { Pipeline } from '../datasets/spec.js';
import { type OpenModel, openModel } from '../engine/model/open.js';
import type { RunInput } from './contracts.js';
import { differences, engineNumerics, fingerprintOf, type Identity, identify } from './fingerprint.js';
import { readPolicy } from './policy-file.js';
import { engineVersion } from './version.js';

const RUN_FILE_VERSION = 1;

export interface RunFile {
  readonly version: number;
  /** Of the workflow that makes this directory; drawn when the directory is. */
  readonly workflowId: string;
  readonly fingerprint: string;
  readonly identity: Identity;
  readonly pipeline: Pipeline;
  /** What the engine opens. */
  readonly modelPath: string;
  readonly modelFacts: Readonly<Record<string, string | number>>;
  readonly engineVersion: string;
  /** Does this run again. */
  readonly command: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
}

export interface PrepareOptions {
  readonly pipeline: Pipeline;
  /** A GGUF file or a model directory: the pipeline's model on this machine. */
  readonly modelPath: string;
  /** Where sums of files are remembered. */
  readonly cacheDir: string;
  readonly command: string;
}

/**
 * Makes the run directory, or finds that it is this run's already.
 *
 * What no answer depends on (metrics, threads, where the model lies) is brought up to date.
 *
 * @throws InputError where the directory holds another run, naming what differs, or cannot be written.
 * @throws EngineError where the model cannot be opened.
 */
export async function prepareRunDirectory(options: PrepareOptions): Promise<RunFile> {
  const { pipeline, modelPath, cacheDir, command } = options;
  const { runDir } = pipeline;
  const { policy } = pipeline.engine;
  // Read again where it is computed; a mistake in it is found here.
  if (policy !== 'auto') readPolicy(policy);
  const model = await openModel(modelPath, { cacheDir });
  try {
    const identity = await identify(pipeline, model, cacheDir);
    const before = existsSync(runFilePath(runDir)) ? readRunFile(runDir) : undefined;
    if (before) refuseAnotherRun(runDir, before, identity);
    const file: RunFile = {
      version: RUN_FILE_VERSION,
      workflowId: before?.workflowId ?? `${pipeline.name}-${randomBytes(4).toString('hex')}`,
      fingerprint: fingerprintOf(identity),
      identity,
      pipeline,
      modelPath,
      modelFacts: factsOf(model, modelPath),
      engineVersion: engineVersion(engineNumerics(pipeline.engine)),
      command,
      createdAt: before?.createdAt ?? Date.now(),
    };
    writeFileAtomic(runFilePath(runDir), `${JSON.stringify(file, undefined, 2)}\n`);
    return file;
  } finally {
    await model.weights.close();
  }
}

/** @throws InputError where there is no run, or one that this version cannot read. */
export function readRunFile(runDir: string): RunFile {
  const path = runFilePath(runDir);
  let file: Partial<RunFile>;
  try {
    file = JSON.parse(readFileSync(path, 'utf8')) as Partial<RunFile>;
  } catch (error) {
    const found = existsSync(path) ? 'is not valid JSON' : 'is not there';
    throw new InputError(`${runDir} is not a run directory: its run.json ${found}`, { cause: error });
  }
  if (file.version !== RUN_FILE_VERSION) {
    throw new InputError(
      `${path}: needs version ${RUN_FILE_VERSION}, found ${JSON.stringify(file.version)}; choose another run directory`,
    );
  }
  return file as RunFile;
}

/** What travels through Temporal. */
export function runInputOf({ pipeline, fingerprint }: RunFile): RunInput {
  return { runDir: pipeline.runDir, name: pipeline.name, fingerprint };
}

function refuseAnotherRun(runDir: string, before: RunFile, identity: Identity): void {
  const differing = differences(before.identity, identity);
  if (differing.length === 0) return;
  throw new InputError(
    `${runDir} holds another run; different are: ${differing.join('; ')}. ` +
      'Choose another directory with --run-dir, or delete this one',
  );
}

function factsOf({ weights, format, tokenizer }: OpenModel, modelPath: string): RunFile['modelFacts'] {
  const { family, numLayers, hiddenSize, vocabSize, maxPositions } = weights.config;
  return {
    file: basename(modelPath),
    format,
    family,
    layers: numLayers,
    'hidden size': hiddenSize,
    vocabulary: vocabSize,
    'context (tokens)': maxPositions,
    ...(tokenizer ? {} : { tokenizer: 'none' }),
    sha256: weights.identity,
  };
}

function runFilePath(runDir: string): string {
  return join(runDir, 'run.json');
}
