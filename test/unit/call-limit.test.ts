import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { withCallLimit } from '../../cli/call-limit.js';

/** As Temporal's: listens to the signal for every call, and never stops to. */
function listeningClient() {
  const given: AbortSignal[] = [];
  return {
    given,
    async withAbortSignal<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
      given.push(signal);
      signal.addEventListener('abort', () => undefined);
      return act();
    },
  };
}

describe('withCallLimit', () => {
  it('leaves no listener on a signal that outlives the calls', async () => {
    const client = listeningClient();
    const { signal } = new AbortController();
    for (let call = 0; call < 12; call += 1) {
      await withCallLimit(client, { milliseconds: 10_000, signal }, async () => call);
    }
    await expect(
      withCallLimit(client, { milliseconds: 10_000, signal }, () => Promise.reject(new Error('refused'))),
    ).rejects.toThrow('refused');
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('cancels the calls when the time is over', async () => {
    const client = listeningClient();
    await withCallLimit(client, { milliseconds: 5 }, () => sleep(50));
    expect(client.given.map((signal) => signal.aborted)).toEqual([true]);
  });

  it.each([
    ['before', (controller: AbortController) => controller.abort()],
    ['during', (controller: AbortController) => void setTimeout(() => controller.abort(), 5)],
  ])('cancels the calls when the signal aborts %s them', async (_, abort) => {
    const client = listeningClient();
    const controller = new AbortController();
    abort(controller);
    await withCallLimit(client, { milliseconds: 10_000, signal: controller.signal }, () => sleep(50));
    expect(client.given.map((signal) => signal.aborted)).toEqual([true]);
  });
});
