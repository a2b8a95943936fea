/**
 * The local Temporal server: one for all commands of a user, started by the first and stopped by the last.
 *
 * Its state file says where it is; a server whose starter was killed is used like any other, one that was itself killed
 * is started again on the same ports and the same database, so that workflows go on.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { makeDirectory, writeFileAtomic } from '../datasets/files.js';
import { isAlive, withLock } from './bootstrap.js';
import { stateDirectory } from './state.js';
import { ensureTemporalBinary } from './temporal-binary.js';
import {
  answers,
  checkPort,
  freePort,
  isServer,
  type Ports,
  type ServerFiles,
  startServer,
  stopServer,
} from './temporal-process.js';

/** What the state file says; true of a running server only while the process is there. */
export interface ServerState {
  readonly pid: number;
  readonly address: string;
  readonly uiAddress: string;
  readonly dbFile: string;
  readonly logFile: string;
  /** Of the command that started it. */
  readonly ownerPid: number;
  readonly startedAt: string;
  /** Whether some command asked that it be left running. */
  readonly keep: boolean;
}

export interface LocalServer {
  /** Follows the server when it is started again. */
  readonly state: ServerState;
  /** Whether this call started it. */
  readonly started: boolean;
  /** Stops the server unless another command uses it or it is to be kept. */
  close(): Promise<void>;
}

export interface LocalServerOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** Leave the server running after the last command. */
  readonly keep?: boolean;
  /** Fixed ports; by default those used before, if free. */
  readonly port?: number;
  readonly uiPort?: number;
  readonly report?: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
  /** The server died and could not be started again. */
  readonly onLost?: (error: Error) => void;
}

/** How soon a server that was killed is noticed. */
const WATCH_MILLISECONDS = 1_000;
/** Another program may take a free port between the look and the start. */
const START_ATTEMPTS = 5;

let handles = 0;

/** Uses the server that runs, or starts one. @throws InputError where none can be had. */
export async function openLocalServer(options: LocalServerOptions = {}): Promise<LocalServer> {
  const home = stateHome(options.env);
  makeHome(home);
  handles += 1;
  const user = join(home, 'users', `${process.pid}-${handles}`);
  const { program, state, started } = await locate(home, user, options);
  let current = state;
  const watch = setInterval(() => void revive(), WATCH_MILLISECONDS);
  watch.unref();
  let reviving = false;
  let closed = false;

  async function revive(): Promise<void> {
    if (reviving || closed || isServer(current.pid, current.dbFile)) return;
    reviving = true;
    try {
      await withLock(lockFile(home), async () => {
        if (!closed) current = await restartIfGone(home, program, current);
      });
    } catch (error) {
      clearInterval(watch);
      if (!closed) options.onLost?.(error as Error);
    } finally {
      reviving = false;
    }
  }

  return {
    get state() {
      return current;
    },
    started,
    async close() {
      closed = true;
      clearInterval(watch);
      await withLock(lockFile(home), () => leave(home, user));
    },
  };
}

/** The server that runs now, if one does; none is started. */
export async function findLocalServer(env?: NodeJS.ProcessEnv): Promise<ServerState | undefined> {
  const state = readState(stateHome(env));
  return state && isServer(state.pid, state.dbFile) && (await answers(state.address)) ? state : undefined;
}

/** Stops the server even if it was to be kept. @returns whether one ran. */
export async function stopLocalServer(env?: NodeJS.ProcessEnv): Promise<boolean> {
  const home = stateHome(env);
  return withLock(lockFile(home), async () => {
    const state = readState(home);
    if (!state || !isServer(state.pid, state.dbFile)) return false;
    await stopServer(state.pid, state.dbFile);
    return true;
  });
}

interface Located {
  readonly program: string;
  readonly state: ServerState;
  readonly started: boolean;
}

async function locate(home: string, user: string, options: LocalServerOptions): Promise<Located> {
  const { env, signal, report } = options;
  // A download may take minutes: not under the lock. The program is also needed to start a killed server again.
  const { path: program, version } = await ensureTemporalBinary({
    ...(env ? { env } : {}),
    ...(report ? { report } : {}),
    signal,
  });
  return withLock(lockFile(home), async () => {
    signal?.throwIfAborted();
    writeFileSync(user, '');
    try {
      const before = readState(home);
      if (before && isServer(before.pid, before.dbFile)) {
        if (await answers(before.address))
          return { program, state: keepIf(home, before, options.keep), started: false };
        // It hangs, or was stopped by a signal: its work is in the database.
        await stopServer(before.pid, before.dbFile);
      }
      const files = { dbFile: join(home, `temporal-${version}.db`), logFile: join(home, 'server.log') };
      return { program, state: await start(home, program, files, before, options), started: true };
    } catch (error) {
      rmSync(user, { force: true });
      throw error;
    }
  });
}

async function start(
  home: string,
  program: string,
  files: ServerFiles,
  before: ServerState | undefined,
  options: LocalServerOptions,
): Promise<ServerState> {
  const started = await launch(program, files, () => choosePorts(before, options), options.signal);
  return writeState(home, { ...started, ...files, keep: options.keep ?? false });
}

/** Called under the lock by every command that noticed; the first starts the server, the others find it. */
async function restartIfGone(home: string, program: string, known: ServerState): Promise<ServerState> {
  const state = readState(home) ?? known;
  if (isServer(state.pid, state.dbFile)) {
    if (state.address === known.address) return state;
    throw new InputError(`the local Temporal server died and now runs at ${state.address}; run the same command again`);
  }
  // Connections that are open lead to its port; its UI may move.
  const port = portOf(known.address);
  const started = await launch(program, known, async () => ({ port, uiPort: await freePort(portOf(known.uiAddress)) }));
  return writeState(home, { ...known, ...started });
}

/** Starts a server, and chooses again where another program was quicker at its ports. */
async function launch(program: string, files: ServerFiles, choose: () => Promise<Ports>, signal?: AbortSignal) {
  for (let attempt = 1; ; attempt += 1) {
    const ports = await choose();
    try {
      return describe(await startServer(program, ports, files, signal), ports);
    } catch (error) {
      const portTaken = /address already in use/.test((error as Error).message);
      if (!portTaken || attempt === START_ATTEMPTS) throw error;
    }
  }
}

async function leave(home: string, user: string): Promise<void> {
  rmSync(user, { force: true });
  const state = readState(home);
  if (!state || state.keep || hasUsers(home)) return;
  await stopServer(state.pid, state.dbFile);
}

/** Files of commands that were killed are removed on the way. */
function hasUsers(home: string): boolean {
  const directory = join(home, 'users');
  let found = false;
  for (const name of readdirSync(directory)) {
    if (isAlive(Number.parseInt(name, 10))) found = true;
    else rmSync(join(directory, name), { force: true });
  }
  return found;
}

async function choosePorts(before: ServerState | undefined, options: LocalServerOptions): Promise<Ports> {
  const { port, uiPort } = options;
  return {
    port: port ? await checkPort(port, 'the Temporal server') : await freePort(before && portOf(before.address)),
    uiPort: uiPort ? await checkPort(uiPort, 'the Temporal UI') : await freePort(before && portOf(before.uiAddress)),
  };
}

function describe(pid: number, ports: Ports) {
  return {
    pid,
    address: `127.0.0.1:${ports.port}`,
    uiAddress: `http://127.0.0.1:${ports.uiPort}`,
    ownerPid: process.pid,
    startedAt: new Date().toISOString(),
  };
}

function keepIf(home: string, state: ServerState, keep = false): ServerState {
  return keep && !state.keep ? writeState(home, { ...state, keep }) : state;
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1));
}

function stateHome(env: NodeJS.ProcessEnv = process.env): string {
  return join(stateDirectory(env), 'temporal');
}

function makeHome(home: string): void {
  try {
    makeDirectory(join(home, 'users'));
  } catch (error) {
    const { message } = error as Error;
    throw new InputError(`cannot keep the local Temporal server's files: ${message}; point XDG_STATE_HOME elsewhere`);
  }
}

const lockFile = (home: string): string => join(home, 'server.lock');
const stateFile = (home: string): string => join(home, 'server.json');

function readState(home: string): ServerState | undefined {
  try {
    return JSON.parse(readFileSync(stateFile(home), 'utf8')) as ServerState;
  } catch {
    return undefined;
  }
}

function writeState(home: string, state: ServerState): ServerState {
  writeFileAtomic(stateFile(home), `${JSON.stringify(state, undefined, 2)}\n`);
  return state;
}
