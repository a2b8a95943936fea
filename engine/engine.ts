/**
 * The engine on the calling thread: one model, opened once, that answers requests.
 *
 * Arithmetic blocks the thread; `host.ts` gives the engine one of its own.
 */
import { availableParallelism } from 'node:os';
import { admit } from './admission.js';
import type { Backend, OpenBackend } from './backends/backend.js';
import { openOnnx } from './backends/onnx.js';
import { openReference } from './backends/reference.js';
import { EngineError } from './errors.js';
import { loadResident } from './memory/resident.js';
import { openModel } from './model/open.js';
import type { Engine, EngineOptions, EngineRequest, EngineResult, RunOptions } from './requests.js';
import { residentCompute } from './schedule/compute.js';
import { runLoop } from './schedule/loop.js';

/** Sequences computed together: enough rows for the products' full speed in decoding. */
const DEFAULT_GPU_BATCH_SIZE = 64;
/** Rows of a sweep: prompts enter in portions, so that activations stay small beside the weights. */
const MAX_ROWS = 2048;

const backends: Readonly<Record<EngineOptions['backend'], OpenBackend>> = { onnx: openOnnx, reference: openReference };

/** @throws EngineError BAD_WEIGHTS, UNSUPPORTED or BAD_INPUT, before anything is computed, if the model can't be used. */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const { weights, tokenizer } = await openModel(options.model);
  const { config } = weights;
  const open = backends[options.backend];
  if (!open) {
    throw new EngineError(
      'BAD_INPUT',
      `unknown backend "${options.backend}"; use ${Object.keys(backends).join(' or ')}`,
    );
  }
  const layers = await loadResident(config, weights);
  await weights.close();
  const backend = await open(config, { threads: options.threads ?? availableParallelism() });
  const compute = residentCompute(backend, config, layers);
  const batches = {
    gpuBatchSize: options.gpuBatchSize ?? DEFAULT_GPU_BATCH_SIZE,
    numGpuBatches: options.numGpuBatches ?? 1,
    maxRows: MAX_ROWS,
  };
  let last: Promise<unknown> = Promise.resolve();

  async function answer(requests: readonly EngineRequest[], run: RunOptions): Promise<EngineResult[]> {
    const admitted = await Promise.all(requests.map((request) => admit(request, { config, tokenizer })));
    const sequences = admitted.filter((one) => 'accept' in one);
    await runLoop(backend, compute, config, sequences, { ...batches, signal: run.signal, onProgress: run.onProgress });
    return admitted.map((one) => ('accept' in one ? one.result() : one));
  }

  return {
    info: {
      config,
      identity: weights.identity,
      backend: backend.name,
      numerics: backend.numerics,
      hasTokenizer: tokenizer !== undefined,
    },
    // One device, one run: a second call waits for the first.
    run(requests, run = {}) {
      const result = last.then(() => answer(requests, run));
      last = result.catch(() => undefined);
      return result;
    },
    close: () => closeAfter(last, backend),
  };
}

async function closeAfter(last: Promise<unknown>, backend: Backend): Promise<void> {
  await last;
  await backend.close();
}
