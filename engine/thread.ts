/** The engine's own thread: opens one engine and serves the messages of `host.ts`. */
import { parentPort, workerData } from 'node:worker_threads';
import { collectAtOnce } from './collector.js';
import { openEngine } from './engine.js';
import { EngineError } from './errors.js';
import type { Engine, EngineOptions } from './requests.js';
import type { FromThread, ThrownError, ToThread } from './thread-messages.js';

collectAtOnce();

const port = parentPort!;
const send = (message: FromThread) => port.postMessage(message);
const aborts = new Map<number, AbortController>();

const opening = openEngine(workerData as EngineOptions);
opening.then(
  ({ info }) => send({ type: 'opened', info }),
  (error) => send({ type: 'refused', error: thrown(error) }),
);

// Listens from the start and until it is terminated: a thread whose loop has nothing to wait for drains the compilers' tasks,
// and one of those that needs a collection then waits for this thread, as this thread does for it (nodejs/node#54918).
port.on('message', async (message: ToThread) => {
  const engine = await opening;
  if (message.type === 'run') await run(engine, message);
  else if (message.type === 'usage') send({ type: 'done', id: message.id, answer: await engine.usage() });
  else if (message.type === 'abort') aborts.get(message.id)?.abort();
  else {
    await engine.close();
    send({ type: 'closed' });
  }
});

async function run(engine: Engine, { id, requests, checkpoint }: Extract<ToThread, { type: 'run' }>): Promise<void> {
  const abort = new AbortController();
  aborts.set(id, abort);
  try {
    const answer = await engine.run(requests, {
      signal: abort.signal,
      onProgress: (progress) => send({ type: 'progress', id, progress }),
      ...(checkpoint && { checkpoint }),
    });
    send({ type: 'done', id, answer });
  } catch (error) {
    send({ type: 'failed', id, error: thrown(error) });
  } finally {
    aborts.delete(id);
  }
}

function thrown(error: unknown): ThrownError {
  if (error instanceof EngineError) return { code: error.code, message: error.message, details: error.details };
  return { message: error instanceof Error ? (error.stack ?? error.message) : String(error), details: {} };
}
