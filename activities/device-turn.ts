/**
 * Turns on a device: of all processes of a machine one computes at a time, a shard each.
 *
 * Two that computed together would take memory twice, and threads of one would wait for cores that the other has.
 */
import { statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FileLock, tryLock } from '../engine/file-lock.js';

export interface TurnOptions {
  /** Of the lock, one for each device; `PATH.waiting` lies beside it while somebody waits. */
  readonly path: string;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
  /** Told once, in a line, where it has to wait. */
  readonly report?: ((line: string) => void) | undefined;
}

/** Of whoever waits, and of whoever computes. */
const LOOK_MILLISECONDS = 200;
const TOUCH_MILLISECONDS = 1_000;
/** A process that was stopped is thought dead sooner than its shard is given to another, at 20 s. */
const SILENT_MILLISECONDS = 15_000;

/**
 * Calls `act` when it is its turn. An owner that was stopped for long loses the device, and is not told: what it still
 * writes its claims decide.
 *
 * @throws whatever the signal was aborted with, while waiting
 */
export async function withDeviceTurn<T>(options: TurnOptions, act: () => Promise<T>): Promise<T> {
  const lock = await takeTurn(options);
  const timer = setInterval(() => lock.touch(), TOUCH_MILLISECONDS);
  try {
    return await act();
  } finally {
    clearInterval(timer);
    lock.release();
  }
}

async function takeTurn({ path, signal, report }: TurnOptions): Promise<FileLock> {
  const waiting = `${path}.waiting`;
  const pause = (looks: number) => sleep(looks * LOOK_MILLISECONDS, undefined, { signal });
  // Between its shards a process leaves the device for a moment only: who has waited looks in it.
  if (ageOf(waiting) < 2 * LOOK_MILLISECONDS) await pause(2);
  for (let reported = false; ; ) {
    const lock = tryLock(path, SILENT_MILLISECONDS);
    if ('release' in lock) return lock;
    if (!reported) report?.(`waiting for the device: process ${lock.pid ?? 'unknown'} on ${lock.host} computes on it`);
    reported = true;
    writeFileSync(waiting, '');
    await pause(1);
  }
}

function ageOf(path: string): number {
  return Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0);
}
