/**
 * A pipeline as `npm start` runs it once everything is there, its answers computed anew: seconds in all and outside the
 * engine, memory of all processes together, and how long a shard says nothing.
 *
 *     node dist/test/bench/quickstart.js [PIPELINE.yaml] [-- OPTIONS OF zigzag run]
 *
 * On Linux, where nothing else may run meanwhile. Ends with exit code 1 where a target is missed.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { tsToMs } from '@temporalio/common/lib/time.js';
import { readRunFile } from '../../activities/run-file.js';
import { openConnection } from '../../cli/connection.js';
import { findLocalServer } from '../../cli/temporal-server.js';
import { isolatedEnv, temporaryDirectory } from '../support/temporal.js';
import { below, print, printChecks } from './checks.js';

const SECONDS_IN_ALL = 120;
const SECONDS_OUTSIDE_ENGINE = 20;
const RESIDENT_GIB = 2.5;
/** Heartbeats are sent every second. */
const SILENT_SECONDS = 11;
const MEMORY_MILLISECONDS = 1_000;
const HEARTBEAT_MILLISECONDS = 200;

const binPath = fileURLToPath(new URL('../../../bin/zigzag.mjs', import.meta.url));
const [pipeline = 'pipelines/quickstart.yaml', ...options] = process.argv.slice(2).filter((word) => word !== '--');
const directory = temporaryDirectory();
try {
  process.exitCode = (await measure(join(directory, 'run'))) ? 0 : 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** @returns whether all targets were met */
async function measure(runDir: string): Promise<boolean> {
  const env = isolatedEnv(directory);
  const began = performance.now();
  const words = [binPath, 'run', pipeline, '--run-dir', runDir, '--json', ...options];
  const command = spawn(process.execPath, words, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let stdout = '';
  command.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  const over = new AbortController();
  const watching = Promise.all([peakResidentBytes(over.signal), longestSilence(env, runDir, over.signal)]);
  const code = await new Promise<number | null>((resolve) => command.once('close', resolve));
  const seconds = (performance.now() - began) / 1000;
  over.abort();
  const [residentBytes, silentMilliseconds] = await watching;
  if (code !== 0) throw new Error(`zigzag ${words.slice(1).join(' ')} ended with ${code}`);
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as { readonly seconds: number; readonly rows: number };
  print(`${pipeline}: ${result.rows} rows`);
  return printChecks([
    below('seconds in all', seconds, SECONDS_IN_ALL),
    below('seconds outside the engine', seconds - result.seconds, SECONDS_OUTSIDE_ENGINE),
    below('GiB resident, all processes', residentBytes / 2 ** 30, RESIDENT_GIB),
    below('seconds a shard said nothing, at most', silentMilliseconds / 1000, SILENT_SECONDS),
  ]);
}

/** Of the command and of the server that it starts, which both have the directory in their environment. */
async function peakResidentBytes(over: AbortSignal): Promise<number> {
  let peak = 0;
  while (!over.aborted) {
    const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isOurs(name));
    peak = Math.max(
      peak,
      processes.reduce((sum, pid) => sum + residentBytes(pid), 0),
    );
    await pause(MEMORY_MILLISECONDS, over);
  }
  return peak;
}

function isOurs(pid: string): boolean {
  return readText(`/proc/${pid}/environ`).includes(`XDG_STATE_HOME=${directory}/`);
}

/** Pages that several processes share count once, divided among them (PSS). */
function residentBytes(pid: string): number {
  return 1024 * Number(/^Pss:\s*(\d+) kB$/m.exec(readText(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0);
}

/** Milliseconds between a shard's last sign of life, as the server knows it, and the moment of the look; the most. */
async function longestSilence(env: NodeJS.ProcessEnv, runDir: string, over: AbortSignal): Promise<number> {
  const isThere = async () => (await findLocalServer(env)) !== undefined && readText(join(runDir, 'run.json')) !== '';
  while (!over.aborted && !(await isThere())) await pause(HEARTBEAT_MILLISECONDS, over);
  if (over.aborted) return 0;
  const temporal = await openConnection({ env });
  const run = temporal.client.workflow.getHandle(readRunFile(runDir).workflowId);
  let longest = 0;
  try {
    while (!over.aborted) {
      const description = await run.describe().catch(() => undefined);
      for (const activity of description?.raw.pendingActivities ?? []) {
        const { activityType, lastStartedTime, lastHeartbeatTime } = activity;
        if (activityType?.name !== 'inferShard' || !lastStartedTime) continue;
        longest = Math.max(longest, Date.now() - tsToMs(lastHeartbeatTime ?? lastStartedTime));
      }
      await pause(HEARTBEAT_MILLISECONDS, over);
    }
  } finally {
    await temporal.close();
  }
  return longest;
}

async function pause(milliseconds: number, over: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, { signal: over }).catch(() => undefined);
}

/** Empty where it is not there, or no longer. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
