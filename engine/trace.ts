/**
 * Where a run's time and bytes went, step by step, as the engine saw it.
 */

/** What a sweep is made of. */
export type StepName = 'embed' | 'project' | 'attend' | 'finish' | 'head';
/** What moves between tiers. Waits for `kvRead` are attention's; whatever else the KV cache is waited for is `kvWrite`. */
export type MovedName = 'weights' | 'kvRead' | 'kvWrite' | 'activations';

export interface TraceTotals {
  readonly sweeps: number;
  /** Rows computed: those of prompts, and one for each sequence that decodes. Padding, where there is any, counts too. */
  readonly rows: number;
  readonly promptRows: number;
  readonly decodeRows: number;
  /** A sweep computes rows of both kinds together, so its seconds are divided by their numbers. */
  readonly prefillSeconds: number;
  readonly decodeSeconds: number;
  /** Spent inside the backend. */
  readonly kernelSeconds: number;
  readonly seconds: Readonly<Record<StepName, number>>;
  readonly bytesMoved: Readonly<Record<MovedName, number>>;
  /** Spent waiting for something to arrive. */
  readonly waitSeconds: Readonly<Record<MovedName, number>>;
}

/** One step, for a timeline; times in seconds since the trace was opened. */
interface Span {
  readonly name: StepName;
  readonly layer: number | undefined;
  readonly start: number;
  readonly seconds: number;
}

export class Trace {
  private readonly opened = performance.now();
  private readonly spans: Span[] = [];
  private sweeps = 0;
  private promptRows = 0;
  private decodeRows = 0;
  private prefillSeconds = 0;
  private decodeSeconds = 0;
  private kernelSeconds = 0;
  private readonly seconds: Record<StepName, number> = { embed: 0, project: 0, attend: 0, finish: 0, head: 0 };
  private readonly bytesMoved: Record<MovedName, number> = { weights: 0, kvRead: 0, kvWrite: 0, activations: 0 };
  private readonly waitSeconds: Record<MovedName, number> = { weights: 0, kvRead: 0, kvWrite: 0, activations: 0 };

  /** @param keepSpans whether a timeline is wanted; it grows with the run */
  constructor(private readonly keepSpans = false) {}

  async step<Result>(name: StepName, layer: number | undefined, act: () => Promise<Result>): Promise<Result> {
    const start = performance.now();
    try {
      return await act();
    } finally {
      const seconds = (performance.now() - start) / 1000;
      this.seconds[name] += seconds;
      if (this.keepSpans) this.spans.push({ name, layer, start: (start - this.opened) / 1000, seconds });
    }
  }

  /** A sweep that has ended. */
  sweep(promptRows: number, decodeRows: number, seconds: number): void {
    this.sweeps++;
    this.promptRows += promptRows;
    this.decodeRows += decodeRows;
    const prefill = seconds * (promptRows / (promptRows + decodeRows));
    this.prefillSeconds += prefill;
    this.decodeSeconds += seconds - prefill;
  }

  kernel(seconds: number): void {
    this.kernelSeconds += seconds;
  }

  moved(what: MovedName, bytes: number): void {
    this.bytesMoved[what] += bytes;
  }

  /** Waits for something to arrive or to be gone. */
  async wait<Result>(what: MovedName, until: () => Promise<Result>): Promise<Result> {
    const start = performance.now();
    try {
      return await until();
    } finally {
      this.waited(what, (performance.now() - start) / 1000);
    }
  }

  waited(what: MovedName, seconds: number): void {
    this.waitSeconds[what] += seconds;
  }

  totals(): TraceTotals {
    return {
      sweeps: this.sweeps,
      rows: this.promptRows + this.decodeRows,
      promptRows: this.promptRows,
      decodeRows: this.decodeRows,
      prefillSeconds: this.prefillSeconds,
      decodeSeconds: this.decodeSeconds,
      kernelSeconds: this.kernelSeconds,
      seconds: { ...this.seconds },
      bytesMoved: { ...this.bytesMoved },
      waitSeconds: { ...this.waitSeconds },
    };
  }

  /** In the trace event format that chrome://tracing and Perfetto read. */
  chromeTrace(): string {
    const traceEvents = this.spans.map(({ name, layer, start, seconds }) => ({
      name: layer === undefined ? name : `${name} ${layer}`,
      cat: name,
      ph: 'X',
      pid: 1,
      tid: 1,
      ts: Math.round(start * 1e6),
      dur: Math.round(seconds * 1e6),
    }));
    return JSON.stringify({ traceEvents, displayTimeUnit: 'ms' });
  }
}

/** What was counted between two looks at the engine. */
export function totalsBetween(before: TraceTotals, after: TraceTotals): TraceTotals {
  return {
    ...between(countsOf(before), countsOf(after)),
    seconds: between(before.seconds, after.seconds),
    bytesMoved: between(before.bytesMoved, after.bytesMoved),
    waitSeconds: between(before.waitSeconds, after.waitSeconds),
  };
}

function countsOf(totals: TraceTotals) {
  const { sweeps, rows, promptRows, decodeRows, prefillSeconds, decodeSeconds, kernelSeconds } = totals;
  return { sweeps, rows, promptRows, decodeRows, prefillSeconds, decodeSeconds, kernelSeconds };
}

function between<Key extends string>(
  before: Readonly<Record<Key, number>>,
  after: Readonly<Record<Key, number>>,
): Record<Key, number> {
  const keys = Object.keys(after) as Key[];
  return Object.fromEntries(keys.map((key) => [key, after[key] - before[key]])) as Record<Key, number>;
}
