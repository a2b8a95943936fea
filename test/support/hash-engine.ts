/**
 * An engine that answers by hashing: it keeps the contract of the real one (order, progress, cancellation, seeds) and
 * computes nothing.
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { EngineError } from '../../engine/errors.js';
import { residentPolicy } from '../../engine/policy/policy.js';
import type { Engine, EngineRequest, EngineResult } from '../../engine/requests.js';
import { Trace } from '../../engine/trace.js';

export interface HashEngineOptions {
  readonly millisecondsPerRow?: number;
  /** Called before each request; may throw. */
  readonly onRequest?: (request: EngineRequest) => void;
  readonly onClose?: () => void;
}

const nothing = { gpu: 0, cpu: 0, disk: 0 };

export function openHashEngine({ millisecondsPerRow = 0, onRequest, onClose }: HashEngineOptions = {}): Engine {
  return {
    info: {
      config: {} as Engine['info']['config'],
      identity: 'hash',
      backend: 'hash',
      numerics: 'hash-1',
      hasTokenizer: true,
      policy: residentPolicy({ gpuBatchSize: 1, numGpuBatches: 1, schedule: 'continuous', overlap: true }),
    },
    async run(requests, { signal, onProgress } = {}) {
      const results: EngineResult[] = [];
      for (const request of requests) {
        if (millisecondsPerRow > 0) await sleep(millisecondsPerRow);
        if (signal?.aborted) throw new EngineError('CANCELLED', 'the run was aborted');
        onRequest?.(request);
        results.push(answer(request));
        const finished = results.length;
        onProgress?.({ finished, total: requests.length, promptTokens: finished, generatedTokens: finished, live: 1 });
      }
      return results;
    },
    usage: async () => ({ ...new Trace().totals(), peakBytes: nothing, usedBytes: nothing }),
    async close() {
      onClose?.();
    },
  };
}

function answer(request: EngineRequest): EngineResult {
  if (request.kind === 'score') {
    const options = request.options.map((option) => ({
      logprob: -number(`${request.context}${option}`),
      tokens: 1,
      isGreedy: false,
    }));
    return { kind: 'score', id: request.id, promptTokens: 3, options };
  }
  const key = JSON.stringify([request.prompt, request.maxNewTokens, request.sampling]);
  const tokens = [number(key), number(`${key}.`)];
  return {
    kind: 'generate',
    id: request.id,
    text: tokens.join(' '),
    tokens,
    finishReason: 'length',
    promptTokens: 3,
    logprobs: tokens.map((token) => -token / 1000),
  };
}

function number(text: string): number {
  return createHash('sha256').update(text).digest().readUInt16LE(0);
}
