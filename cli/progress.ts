/**
 * Progress on stderr: a bar on a terminal, elsewhere one line every ten seconds.
 */
import { type Bar, type GenericFormatter, MultiBar } from 'cli-progress';
import type { RunProgress } from '../activities/contracts.js';
import { coloursFor, formatBytes, formatCount, formatDuration, type Output } from './terminal.js';

export interface ProgressView<Args extends unknown[]> {
  update(...args: Args): void;
  /** A line that stays, above the bar. */
  note(line: string): void;
  stop(): void;
}

/** What the views need of their surroundings; tests bring their own. */
export interface ProgressOptions {
  readonly out?: Output & { readonly columns?: number };
  readonly now?: () => number;
}

const LINE_MILLISECONDS = 10_000;
/** Rates are of the last half minute: long enough to be steady over a batch, short enough to follow. */
const RATE_MILLISECONDS = 30_000;

/** Room that is kept for the text, so that the bar does not jump with it. */
const TEXT_COLUMNS = 62;

/** Progress of a run: rows, shards, tokens a second, time left. */
export function openRunProgress(options: ProgressOptions = {}): ProgressView<[RunProgress]> {
  const now = options.now ?? Date.now;
  const meter = createMeter(now);
  const view = openView(options);
  let stage: RunProgress['stage'] | undefined;
  return {
    update(progress) {
      meter.add(progress);
      const hasNewStage = progress.stage !== stage;
      stage = progress.stage;
      const { rows, plannedRows } = progress;
      view.show(
        { done: rows, total: plannedRows, label: stageNames[stage], text: runText(progress, meter) },
        hasNewStage,
      );
    },
    note: view.note,
    stop: view.stop,
  };
}

/** Progress of a download. */
export function openBytesProgress(what: string, options: ProgressOptions = {}): ProgressView<[number, number]> {
  const view = openView(options);
  return {
    update(done, total) {
      view.show({ done, total, label: what, text: `${formatBytes(done)} of ${formatBytes(total)}` }, false);
    },
    note: view.note,
    stop: view.stop,
  };
}

/** Progress of something that takes known steps. */
export function openStepsProgress(what: string, options: ProgressOptions = {}): ProgressView<[number, number, string]> {
  const view = openView(options);
  return {
    update(done, total, step) {
      view.show({ done, total, label: what, text: `${done}/${total} \u00b7 ${step}` }, false);
    },
    note: view.note,
    stop: view.stop,
  };
}

const stageNames: Readonly<Record<RunProgress['stage'], string>> = {
  planning: 'planning',
  inferring: 'answering',
  paused: 'paused',
  scoring: 'scoring',
  done: 'done',
};

function runText(progress: RunProgress, meter: Meter): string {
  const { stage, plannedRows, plannedShards, rows, doneShards, errors } = progress;
  if (plannedRows === 0) return 'reading the source, rendering prompts';
  const rate = meter.tokensPerSecond();
  const left = meter.secondsLeft(plannedRows - rows);
  return [
    `${formatCount(rows)}/${formatCount(plannedRows)} rows`,
    `shard ${doneShards}/${plannedShards}`,
    ...(rate === undefined ? [] : [`${formatCount(rate)} tokens/s`]),
    ...(errors === 0 ? [] : [`${formatCount(errors)} ${errors === 1 ? 'error' : 'errors'}`]),
    ...(left === undefined || rows === plannedRows ? [] : [`${formatDuration(left)} left`]),
    ...(stage === 'paused' ? ['until zigzag resume'] : []),
  ].join(' \u00b7 ');
}

interface Meter {
  add(progress: RunProgress): void;
  tokensPerSecond(): number | undefined;
  secondsLeft(rows: number): number | undefined;
}

/** Rates over a sliding window. The first sample counts what was there already, so reused parts are no speed. */
function createMeter(now: () => number): Meter {
  let samples: { at: number; rows: number; tokens: number }[] = [];
  const rateOf = (key: 'rows' | 'tokens') => {
    const [first, last] = [samples[0], samples.at(-1)];
    // Less than before, where a shard began anew on another worker.
    if (!first || !last || last[key] <= first[key]) return undefined;
    return ((last[key] - first[key]) / (last.at - first.at)) * 1000;
  };
  return {
    add({ stage, rows, promptTokens, generatedTokens }) {
      if (stage === 'paused') samples = [];
      if (stage !== 'inferring') return;
      const at = now();
      const inWindow = samples.filter((sample) => at - sample.at <= RATE_MILLISECONDS);
      // One older sample stays, so that a shard that takes longer than the window still has a rate.
      const older = samples.filter((sample) => at - sample.at > RATE_MILLISECONDS).slice(-1);
      samples = [...older, ...inWindow, { at, rows, tokens: promptTokens + generatedTokens }];
    },
    tokensPerSecond: () => rateOf('tokens'),
    secondsLeft(rows) {
      const rate = rateOf('rows');
      return rate === undefined ? undefined : rows / rate;
    },
  };
}

interface Shown {
  readonly done: number;
  readonly total: number;
  readonly label: string;
  readonly text: string;
}

interface View {
  /** @param now whether people who read a log should see this at once. */
  show(shown: Shown, now: boolean): void;
  note(line: string): void;
  stop(): void;
}

function openView({ out = process.stderr }: ProgressOptions): View {
  return out.isTTY && process.env.TERM !== 'dumb' ? openBar(out) : openLines(out);
}

function openLines(out: Output): View {
  let latest: Shown | undefined;
  let written = '';
  const write = () => {
    if (!latest) return;
    const line = `${latest.label}: ${latest.text}`;
    if (line !== written) out.write(`${line}\n`);
    written = line;
  };
  const timer = setInterval(write, LINE_MILLISECONDS);
  timer.unref();
  return {
    show(shown, now) {
      latest = shown;
      if (now) write();
    },
    note: (line) => void out.write(`${line}\n`),
    stop: () => clearInterval(timer),
  };
}

function openBar(out: Output & { readonly columns?: number }): View {
  const colours = coloursFor(out);
  const format: GenericFormatter = (_options, _params, { shown }: { shown: Shown }) => {
    const room = (out.columns ?? 80) - 1;
    const label = shown.label.padEnd(10);
    const barWidth = Math.min(32, room - label.length - 4 - Math.max(TEXT_COLUMNS, shown.text.length));
    const full = shown.total === 0 ? 0 : Math.round(barWidth * Math.min(1, shown.done / shown.total));
    const bar =
      barWidth < 8 ? '' : `${colours.cyan('\u2501'.repeat(full))}${colours.dim('\u2500'.repeat(barWidth - full))}  `;
    return `${colours.bold(label)} ${bar}${shown.text.slice(0, Math.max(0, room - label.length - 1))}`;
  };
  const stream = out as NodeJS.WritableStream;
  const bars = new MultiBar({
    format,
    stream,
    hideCursor: true,
    gracefulExit: false,
    fps: 8,
    linewrap: false,
    clearOnComplete: true,
  });
  let bar: Bar | undefined;
  return {
    show(shown) {
      bar ??= bars.create(shown.total, 0, { shown });
      bar.setTotal(shown.total);
      bar.update(shown.done, { shown });
    },
    note(line) {
      if (bar) bars.log(`${line}\n`);
      else out.write(`${line}\n`);
    },
    stop: () => bars.stop(),
  };
}
