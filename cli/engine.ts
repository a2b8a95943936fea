/**
 * The engine as commands open it: on its own thread, and with a count of what that thread is doing.
 *
 * Ending the process while a product is being computed makes the native library abort it, with another exit code and a
 * message of its own; so who leaves in a hurry waits for the layer under way.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { openEngineHost } from '../engine/host.js';
import type { Engine, EngineOptions } from '../engine/requests.js';
import { cacheDirectory } from './bootstrap.js';

/** A layer of a large model may take seconds. */
const LAYER_MILLISECONDS = 5_000;
const POLL_MILLISECONDS = 20;

let busy = 0;

/** Offload stores and sums of model files go to this user's cache, unless the options say otherwise. */
export async function openEngine(options: EngineOptions): Promise<Engine> {
  const engine = await counted(openEngineHost({ cacheDir: cacheDirectory(), ...options }));
  return { ...engine, run: (requests, run) => counted(engine.run(requests, run)) };
}

/** Ends the process as soon as the engine, which was told to stop, has stopped. */
export async function leave(exitCode: number): Promise<void> {
  const deadline = Date.now() + LAYER_MILLISECONDS;
  while (busy > 0 && Date.now() < deadline) await sleep(POLL_MILLISECONDS);
  if (busy === 0) process.exit(exitCode);
  // To a shell this is exit code 130 too.
  process.removeAllListeners('SIGINT');
  process.kill(process.pid, 'SIGINT');
}

async function counted<T>(work: Promise<T>): Promise<T> {
  busy += 1;
  try {
    return await work;
  } finally {
    busy -= 1;
  }
}
