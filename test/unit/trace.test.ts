import { describe, expect, it } from 'vitest';
import { Trace } from '../../engine/trace.js';

describe('a trace', () => {
  it('divides the seconds of a sweep by the rows of prompts and of decoding', () => {
    const trace = new Trace();
    trace.sweep(100, 0, 2);
    trace.sweep(30, 10, 4);
    trace.sweep(0, 10, 1);
    expect(trace.totals()).toMatchObject({
      sweeps: 3,
      rows: 150,
      promptRows: 130,
      decodeRows: 20,
      prefillSeconds: 5,
      decodeSeconds: 2,
    });
  });

  it('adds up what kernels took, what moved and what was waited for', async () => {
    const trace = new Trace();
    trace.kernel(0.5);
    trace.kernel(0.25);
    trace.moved('weights', 10);
    trace.moved('weights', 20);
    trace.moved('kvRead', 5);
    trace.waited('kvWrite', 3);
    expect(trace.totals()).toMatchObject({
      kernelSeconds: 0.75,
      bytesMoved: { weights: 30, kvRead: 5, kvWrite: 0, activations: 0 },
      waitSeconds: { weights: 0, kvRead: 0, kvWrite: 3, activations: 0 },
    });
  });

  it('counts a step, and a wait, that fail', async () => {
    const trace = new Trace(true);
    const fail = async () => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      throw new Error('broken');
    };
    await expect(trace.step('attend', 2, fail)).rejects.toThrow('broken');
    await expect(trace.wait('weights', fail)).rejects.toThrow('broken');
    const { seconds, waitSeconds } = trace.totals();
    expect(seconds.attend).toBeGreaterThan(0);
    expect(waitSeconds.weights).toBeGreaterThan(0);
    expect(JSON.parse(trace.chromeTrace()).traceEvents).toHaveLength(1);
  });

  it.each([
    ['asked for', true, ['embed', 'project 3', 'head']],
    ['not asked for', false, []],
  ])('has a timeline of complete events in order, where one is %s', async (_, keepSpans, names) => {
    const trace = new Trace(keepSpans);
    for (const [name, layer] of [['embed'], ['project', 3], ['head']] as const) {
      expect(await trace.step(name, layer, async () => name)).toBe(name);
    }
    const { traceEvents } = JSON.parse(trace.chromeTrace()) as {
      traceEvents: { name: string; ph: string; ts: number; dur: number }[];
    };
    expect(traceEvents.map(({ name }) => name)).toEqual(names);
    for (const { ph, ts, dur } of traceEvents) {
      expect(ph).toBe('X');
      expect(ts).toBeGreaterThanOrEqual(0);
      expect(dur).toBeGreaterThanOrEqual(0);
    }
  });
});
