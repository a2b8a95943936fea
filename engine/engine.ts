/**
 * The engine on the calling thread: one model, opened once, that answers requests.
 *
 * Arithmetic blocks the thread; `host.ts` gives the engine one of its own.
 */
import { availableParallelism } from 'node:os';
import { admit } from './admission.js';
import type { OpenBackend } from './backends/backend.js';
import { openOnnx } from './backends/onnx.js';
import { openReference } from './backends/reference.js';
import { timedBackend } from './backends/timed.js';
import { openCheckpoint } from './checkpoint.js';
import { EngineError } from './errors.js';
import { distinctRequests, eachAlone } from './identical.js';
import { loadModel } from './loading.js';
import type { ModelConfig } from './model/config.js';
import type { Engine, EngineOptions, EngineRequest, RunOptions } from './requests.js';
import { type LoopProgress, runLoop } from './schedule/loop.js';
import type { Sequence } from './sequence.js';
import { Trace } from './trace.js';

const backends: Readonly<Record<EngineOptions['backend'], OpenBackend>> = { onnx: openOnnx, reference: openReference };

/**
 * @throws EngineError BAD_WEIGHTS, UNSUPPORTED, BAD_INPUT or OUT_OF_MEMORY, before anything is computed, if the model
 * can't be used as the options say.
 */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const open = backends[options.backend];
  if (!open) {
    const known = Object.keys(backends).join(' or ');
    throw new EngineError('BAD_INPUT', `unknown backend "${options.backend}"; use ${known}`);
  }
  const trace = new Trace(options.timeline);
  const threads = options.threads ?? availableParallelism();
  const openBackend = async (config: ModelConfig) =>
    timedBackend(await open(config, { threads, computeBits: options.computeBits }), (seconds) => trace.kernel(seconds));
  const model = await loadModel(options, openBackend, trace);
  const { config, tokenizer, policy, memory, compute, backend } = model;
  const { sharing = true } = options;
  let last: Promise<unknown> = Promise.resolve();

  async function answer(all: readonly EngineRequest[], run: RunOptions) {
    const { signal, onProgress } = run;
    const { requests, copies, answerAll } = sharing ? distinctRequests(all) : eachAlone(all);
    const encoder = { config, tokenizer, contextTokens: model.contextTokens, passRows: model.passRows };
    const admitted = await Promise.all(requests.map((request) => admit(request, encoder)));
    const { numerics } = backend;
    const parts = { requests, admitted, numerics, model: model.identity, config, memory, trace };
    const checkpoint = run.checkpoint && (await openCheckpoint(run.checkpoint, parts));
    const sequences = checkpoint?.sequences ?? admitted.filter((one) => 'accept' in one);
    const answered = checkpoint?.answered;
    const served = (is: (sequence: Sequence) => boolean) =>
      admitted.reduce((sum, one, i) => sum + (answered?.has(i) || ('accept' in one && is(one)) ? copies[i]! : 0), 0);
    const total = served(() => true);
    const report = (progress: LoopProgress) => {
      const status = checkpoint && { checkpoint: checkpoint.status() };
      onProgress?.({ ...progress, ...status, finished: served(({ finished }) => finished), total });
    };
    if (checkpoint) report({ promptTokens: 0, generatedTokens: 0, live: 0 });
    try {
      const { loop } = checkpoint ?? {};
      await runLoop(backend, compute, config, sequences, {
        ...{ policy, memory, trace, signal, checkpoint: loop, sharing },
        onProgress: report,
      });
    } finally {
      await checkpoint?.close();
    }
    return answerAll(admitted.map((one, i) => answered?.get(i) ?? ('accept' in one ? one.result() : one)));
  }

  return {
    info: {
      config,
      identity: model.identity,
      backend: backend.name,
      numerics: backend.numerics,
      hasTokenizer: tokenizer !== undefined,
      policy,
    },
    // One device, one run: a second call waits for the first.
    run(requests, run = {}) {
      const result = last.then(() => answer(requests, run));
      last = result.catch(() => undefined);
      return result;
    },
    async usage() {
      const { gpu, cpu, disk } = memory.tiers;
      const peakBytes = { gpu: gpu.peakBytes, cpu: cpu.peakBytes, disk: disk.peakBytes };
      const usedBytes = { gpu: gpu.usedBytes, cpu: cpu.usedBytes, disk: disk.usedBytes };
      return { ...trace.totals(), peakBytes, usedBytes, ...(options.timeline && { timeline: trace.chromeTrace() }) };
    },
    async close() {
      await last;
      await model.close();
    },
  };
}
