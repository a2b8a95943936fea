/** One local Temporal server as a process: started detached, asked whether it answers, stopped. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { InputError } from '../datasets/errors.js';
import { isAlive } from './bootstrap.js';

export interface Ports {
  readonly port: number;
  readonly uiPort: number;
}

export interface ServerFiles {
  readonly dbFile: string;
  readonly logFile: string;
}

/** A server on two slow cores with a large database needs a few seconds. */
const START_MILLISECONDS = 30_000;
/** Stopping takes about a second; a server that hangs is killed. */
const STOP_MILLISECONDS = 10_000;
const PROBE_MILLISECONDS = 3_000;
const POLL_MILLISECONDS = 100;
const LARGEST_LOG_BYTES = 10 * 1024 * 1024;

/**
 * Starts a server that outlives this process, and waits until it answers.
 * @returns its process id.
 * @throws InputError with the server's own last words, where it dies at once or does not answer in time.
 */
export async function startServer(program: string, ports: Ports, files: ServerFiles, signal?: AbortSignal) {
  const { size: oldLogBytes } = statSync(files.logFile, { throwIfNoEntry: false }) ?? { size: 0 };
  const log = openSync(files.logFile, oldLogBytes > LARGEST_LOG_BYTES ? 'w' : 'a');
  const logStart = oldLogBytes > LARGEST_LOG_BYTES ? 0 : oldLogBytes;
  const words = ['server', 'start-dev', '--ip', '127.0.0.1', '--port', `${ports.port}`, '--ui-port', `${ports.uiPort}`];
  words.push('--db-filename', files.dbFile, '--log-level', 'warn');
  const child = spawn(program, words, { detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  let ended: string | undefined;
  child.once('error', (error) => {
    ended = error.message;
  });
  child.once('exit', (code, by) => {
    ended = by ? `killed by ${by}` : `exit code ${code}`;
  });
  child.unref();
  const deadline = Date.now() + START_MILLISECONDS;
  while (ended === undefined && Date.now() < deadline && !signal?.aborted) {
    if ((await answers(`127.0.0.1:${ports.port}`)) && (await showsUi(ports.uiPort))) return child.pid as number;
    await sleep(POLL_MILLISECONDS);
  }
  if (ended === undefined) child.kill('SIGKILL');
  signal?.throwIfAborted();
  const reason = lastError(files.logFile, logStart) ?? ended ?? `no answer within ${START_MILLISECONDS / 1000} s`;
  throw new InputError(
    `the local Temporal server did not start: ${reason}; its log is ${files.logFile}, its database ${files.dbFile} ` +
      '(moving the database away starts afresh: finished parts of a run lie in its own directory)',
  );
}

/** Whether a server at this address knows the default namespace. */
export async function answers(address: string): Promise<boolean> {
  const connection = Connection.lazy({ address });
  try {
    await connection.withDeadline(Date.now() + PROBE_MILLISECONDS, () =>
      connection.withAbortSignal(AbortSignal.timeout(PROBE_MILLISECONDS), () =>
        connection.workflowService.describeNamespace({ namespace: 'default' }),
      ),
    );
    return true;
  } catch {
    return false;
  } finally {
    await connection.close();
  }
}

/** Whether a Temporal UI is there: its server dies of a port that is taken, some time after the other one answers. */
async function showsUi(port: number): Promise<boolean> {
  const signal = AbortSignal.timeout(PROBE_MILLISECONDS);
  return fetch(`http://127.0.0.1:${port}/healthz`, { signal }).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** Asks a server to stop and waits until it is gone. */
export async function stopServer(pid: number, dbFile: string): Promise<void> {
  if (!isServer(pid, dbFile)) return;
  process.kill(pid, 'SIGTERM');
  const deadline = Date.now() + STOP_MILLISECONDS;
  while (isServer(pid, dbFile)) {
    if (Date.now() > deadline) process.kill(pid, 'SIGKILL');
    await sleep(POLL_MILLISECONDS);
  }
}

/** Whether this process id is still that of the server on this database: ids are given out again, and zombies linger. */
export function isServer(pid: number, dbFile: string): boolean {
  if (!isAlive(pid)) return false;
  if (process.platform !== 'linux') return true;
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(dbFile);
  } catch {
    return false;
  }
}

/** @throws InputError where another program listens there. */
export async function checkPort(port: number, what: string): Promise<number> {
  if (await isFree(port)) return port;
  throw new InputError(`port ${port} for ${what} is in use by another program; choose another, or leave it out`);
}

/** The port if nobody listens there, else one that is free. */
export async function freePort(preferred = 0): Promise<number> {
  return listen(preferred).catch(() => listen(0));
}

function isFree(port: number): Promise<boolean> {
  return listen(port).then(
    () => true,
    () => false,
  );
}

function listen(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : port));
    });
  });
}

/** The last line that the server wrote about an error since its start. */
function lastError(logFile: string, start: number): string | undefined {
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  const bytes = Buffer.alloc(Math.min(Math.max(size - start, 0), 65_536));
  const file = openSync(logFile, 'r');
  try {
    readSync(file, bytes, 0, bytes.length, size - bytes.length);
  } finally {
    closeSync(file);
  }
  const lines = bytes.toString('utf8').split('\n');
  return lines.map(errorIn).findLast((message) => message !== undefined);
}

/** The program's errors are prose, its services' are logged with their cause, its web UI's are JSON. */
function errorIn(line: string): string | undefined {
  const found =
    /^error:\s*(.*)/i.exec(line) ??
    /^time=\S+ level=ERROR .* error="([^"]*)"/.exec(line) ??
    /^\{"time":.*"level":"FATAL".*"message":"([^"]*)"/.exec(line);
  return found?.[1];
}
