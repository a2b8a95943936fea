import { existsSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { withDeviceTurn } from '../../activities/device-turn.js';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-turn-'));
  path = join(directory, 'cpu.lock');
});
afterEach(() => rmSync(directory, { recursive: true }));

const { signal } = new AbortController();

describe('a turn on a device', () => {
  it('is given to one at a time, and given back', async () => {
    let computing = 0;
    const act = async () => {
      computing += 1;
      expect(computing).toBe(1);
      await sleep(20);
      computing -= 1;
    };
    await Promise.all([1, 2, 3].map(() => withDeviceTurn({ path, signal }, act)));
    expect(existsSync(path)).toBe(false);
  });

  it('is given back by one that fails', async () => {
    await expect(withDeviceTurn({ path, signal }, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken');
    expect(existsSync(path)).toBe(false);
  });

  it('comes to who waits before it comes again to who had it', async () => {
    const order: string[] = [];
    const turn = (name: string) =>
      withDeviceTurn({ path, signal }, async () => {
        order.push(name);
        await sleep(50);
      });
    const first = turn('computes');
    const waiting = sleep(10).then(() => turn('waits'));
    await first;
    await Promise.all([turn('computes again'), waiting]);
    expect(order).toEqual(['computes', 'waits', 'computes again']);
  });

  it('is waited for, with one line that says for whom, until told to stop', async () => {
    writeFileSync(path, `1 - elsewhere\n`);
    const lines: string[] = [];
    const abort = new AbortController();
    const turn = withDeviceTurn({ path, signal: abort.signal, report: (line) => lines.push(line) }, async () => 'done');
    await sleep(500);
    abort.abort();
    await expect(turn).rejects.toThrow(/abort/i);
    expect(lines).toEqual(['waiting for the device: process 1 on elsewhere computes on it']);
    expect(existsSync(path)).toBe(true);
  });

  it.each([
    ['is gone', () => `2147483646 12345 ${hostname()}\n`, 0],
    ['has been silent for long, as one that was stopped', () => `${process.ppid} - ${hostname()}\n`, 16],
    ['has been silent for long, on another host', () => '1 - elsewhere\n', 16],
  ])('is taken from an owner that %s', async (_, owner, secondsAgo) => {
    writeFileSync(path, owner());
    const then = Date.now() / 1000 - secondsAgo;
    utimesSync(path, then, then);
    expect(await withDeviceTurn({ path, signal }, async () => 'done')).toBe('done');
  });

  it('leaves the lock to an owner that has taken it over meanwhile', async () => {
    await withDeviceTurn({ path, signal }, async () => writeFileSync(path, '1 - elsewhere\n'));
    expect(existsSync(path)).toBe(true);
  });
});
