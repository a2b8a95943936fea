/**
 * The engine on a thread of its own, so that heartbeats, signals and progress bars never wait for arithmetic.
 *
 * Requests and results cross by structured clone: they are small beside the work. Weights never leave the thread.
 */
import { Worker } from 'node:worker_threads';
import { EngineError } from './errors.js';
import type { Engine, EngineInfo, EngineOptions, EngineResult, EngineUsage, RunOptions } from './requests.js';
import type { FromThread, ToThread } from './thread-messages.js';

interface Pending {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onProgress: RunOptions['onProgress'];
}

/** @throws whatever `openEngine` throws, as the same EngineError. */
export async function openEngineHost(options: EngineOptions): Promise<Engine> {
  const worker = new Worker(new URL('./thread.js', import.meta.url), { workerData: options });
  const pending = new Map<number, Pending>();
  let nextCall = 0;

  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  const info = await new Promise<EngineInfo>((resolve, reject) => {
    worker.on('message', (message: FromThread) => {
      if (message.type === 'opened') resolve(message.info);
      else if (message.type === 'closed') void worker.terminate();
      else if (message.type === 'refused') {
        reject(reviveError(message.error));
        void worker.terminate();
      } else settle(pending, message);
    });
    const fail = (error: unknown) => {
      reject(error);
      for (const { reject: rejectRun } of pending.values()) rejectRun(error);
      pending.clear();
    };
    worker.once('error', (cause) =>
      fail(new EngineError('BACKEND', `the engine's thread failed: ${cause}`, {}, { cause })),
    );
    worker.once('exit', (code) =>
      fail(new EngineError('BACKEND', `the engine's thread ended with code ${code}`, { code })),
    );
  });
  const send = (message: ToThread) => worker.postMessage(message);

  function ask<Answer>(message: ToThread & { readonly id: number }, onProgress?: RunOptions['onProgress']) {
    const answer = new Promise<unknown>((resolve, reject) => {
      pending.set(message.id, { resolve, reject, onProgress });
    });
    send(message);
    return answer as Promise<Answer>;
  }

  return {
    info,
    run(requests, run = {}) {
      const id = nextCall++;
      const abort = () => send({ type: 'abort', id });
      const results = ask<EngineResult[]>({ type: 'run', id, requests, checkpoint: run.checkpoint }, run.onProgress);
      if (run.signal?.aborted) abort();
      run.signal?.addEventListener('abort', abort, { once: true });
      return results.finally(() => run.signal?.removeEventListener('abort', abort));
    },
    usage: () => ask<EngineUsage>({ type: 'usage', id: nextCall++ }),
    async close() {
      send({ type: 'close' });
      await exited;
    },
  };
}

function settle(pending: Map<number, Pending>, message: Extract<FromThread, { id: number }>): void {
  const call = pending.get(message.id);
  if (!call) return;
  if (message.type === 'progress') {
    call.onProgress?.(message.progress);
    return;
  }
  pending.delete(message.id);
  if (message.type === 'done') call.resolve(message.answer);
  else call.reject(reviveError(message.error));
}

/** Errors lose their class on the way between threads. */
function reviveError(error: Extract<FromThread, { type: 'failed' }>['error']): Error {
  return error.code ? new EngineError(error.code, error.message, error.details) : new Error(error.message);
}
