import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RunProgress } from '../../activities/contracts.js';
import { openBytesProgress, openRunProgress } from '../../cli/progress.js';

const planned: RunProgress = {
  stage: 'inferring',
  plannedShards: 4,
  doneShards: 0,
  plannedRows: 400,
  rows: 0,
  errors: 0,
  promptTokens: 0,
  generatedTokens: 0,
  seconds: 0,
  shards: 4,
  reusedShards: 0,
};

function recorder(isTTY: boolean, columns = 100) {
  const written: string[] = [];
  const out = {
    isTTY,
    columns,
    write: (text: string) => written.push(text),
    on: () => out,
    once: () => out,
    removeListener: () => out,
  };
  return { out, written, text: () => written.join('') };
}

describe('progress where there is no terminal', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it('is one line at a new stage, then one every ten seconds, with rate and time left', () => {
    const { out, written } = recorder(false);
    const view = openRunProgress({ out });
    view.update({ ...planned, stage: 'planning', plannedRows: 0, plannedShards: 0 });
    view.update(planned);
    vi.advanceTimersByTime(9_000);
    view.update({ ...planned, rows: 90, doneShards: 0, promptTokens: 9_000, generatedTokens: 900 });
    vi.advanceTimersByTime(1_000);
    view.stop();
    vi.advanceTimersByTime(60_000);
    expect(written).toEqual([
      'planning: reading the source, rendering prompts\n',
      'answering: 0/400 rows \u00b7 shard 0/4\n',
      'answering: 90/400 rows \u00b7 shard 0/4 \u00b7 1,100 tokens/s \u00b7 31 s left\n',
    ]);
  });

  it('does not count parts that were there already as speed', () => {
    const { out, written } = recorder(false);
    const view = openRunProgress({ out });
    view.update({ ...planned, rows: 300, doneShards: 3, promptTokens: 30_000, reusedShards: 3 });
    vi.advanceTimersByTime(5_000);
    view.update({ ...planned, rows: 350, doneShards: 3, promptTokens: 35_000, reusedShards: 3 });
    vi.advanceTimersByTime(5_000);
    view.stop();
    expect(written.at(-1)).toBe('answering: 350/400 rows \u00b7 shard 3/4 \u00b7 1,000 tokens/s \u00b7 5 s left\n');
  });

  it('does not repeat a line that says nothing new, and writes no control characters', () => {
    const { out, text } = recorder(false);
    const view = openBytesProgress('model', { out });
    view.update(50_000_000, 98_362_432);
    vi.advanceTimersByTime(60_000);
    view.note('a note');
    view.stop();
    expect(text()).toBe('model: 50.0 MB of 98.4 MB\na note\n');
  });
});

describe('progress on a terminal', () => {
  it.each([40, 60, 80, 200])('fits into one line of %i columns', async (columns) => {
    const { out, text } = recorder(true, columns);
    const view = openRunProgress({ out });
    view.update({ ...planned, rows: 123, doneShards: 1, errors: 2, promptTokens: 1_000 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    view.stop();
    const lines = stripVTControlCharacters(text()).split(/[\r\n]/);
    expect(lines.some((line) => line.includes('answering') && line.includes('123/400 rows'))).toBe(true);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
  });
});
