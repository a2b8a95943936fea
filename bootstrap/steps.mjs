/**
 * What must be there before anything runs, step by step: packages, the build, a Temporal server, the default model.
 *
 * Each step says in milliseconds whether it was done before. What it does is done under a lock, to a temporary name or
 * with a stamp written last, so a step that was killed is simply done again.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from './lock.mjs';
import { cacheDirectory, DEFAULT_MODEL, findDefaultModel } from './models.mjs';
import { ensureTemporalBinary, findTemporalBinary } from './temporal-binary.mjs';

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** A step failed: what happened, and what to do by hand. */
export class StepError extends Error {}

/** `npm ci`, without install scripts: onnxruntime-node's downloads CUDA parts, which docs/dependencies.md says how to get. */
export const packagesStep = {
  name: 'packages',
  lock: () => join(ROOT, '.zigzag', 'bootstrap.lock'),
  isDone: () => {
    const lockFile = readFileSync(join(ROOT, 'package-lock.json'));
    const stamp = join(ROOT, 'node_modules', '.zigzag-lock');
    if (readText(stamp) === sha256(lockFile)) return true;
    if (!matchesInstalled(JSON.parse(lockFile))) return false;
    writeFileSync(stamp, sha256(lockFile));
    return true;
  },
  async run(say) {
    say('installing with npm ci');
    const words = ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
    await runCommand('npm', words, 'run `npm ci --ignore-scripts` in the repository and read what it says');
    writeFileSync(join(ROOT, 'node_modules', '.zigzag-lock'), sha256(readFileSync(join(ROOT, 'package-lock.json'))));
    return 'installed';
  },
};

const SOURCE_DIRECTORIES = ['engine', 'datasets', 'workflows', 'activities', 'cli', 'test'];

/** TypeScript to dist/. What was compiled from a source that is gone is removed: the tests run on dist/. */
export const buildStep = {
  name: 'build',
  lock: packagesStep.lock,
  isDone: () => readText(join(ROOT, 'dist', '.zigzag-build')) === sourcesHash(),
  async run(say) {
    say('compiling');
    // Before compiling: what changes meanwhile is then compiled next time.
    const hash = sourcesHash();
    const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    await runCommand(process.execPath, [compiler, '-b'], 'correct the errors above, then run the same command again');
    removeOrphans();
    writeFileSync(join(ROOT, 'dist', '.zigzag-build'), hash);
    return 'compiled';
  },
};

export const temporalStep = {
  name: 'temporal',
  lock: () => join(cacheDirectory(), 'temporal.lock'),
  isDone: async () => isServerElsewhere() || (await findTemporalBinary()) !== undefined,
  async run(say) {
    try {
      const { version, origin, path } = await ensureTemporalBinary({ report: say });
      return `${version} from the ${origin}, in ${path}`;
    } catch (error) {
      throw new StepError(error.message);
    }
  },
};

export const modelStep = {
  name: 'model',
  // `zigzag model pull` takes the lock of the models itself.
  isDone: () => findDefaultModel() !== undefined,
  async run(say) {
    say(`fetching ${DEFAULT_MODEL.name} (${Math.round(DEFAULT_MODEL.bytes / 1e6)} MB)`);
    const byHand = `get ${DEFAULT_MODEL.file} yourself, then: npx zigzag model import FILE --name ${DEFAULT_MODEL.name}`;
    await runCommand(
      process.execPath,
      [join(ROOT, 'dist', 'cli', 'main.js'), 'model', 'pull', DEFAULT_MODEL.name],
      byHand,
    );
    return findDefaultModel() ?? DEFAULT_MODEL.name;
  },
};

/**
 * Does what is missing, in order; says one line with its time for each step that had something to do.
 * @param out where lines go: a stream like process.stderr.
 * @throws StepError
 */
export async function runSteps(steps, out = process.stderr) {
  for (const step of steps) {
    if (await step.isDone()) continue;
    const start = performance.now();
    const say = (what) => out.isTTY && out.write(`\r\u001b[K  ${step.name.padEnd(9)} ${what} ...`);
    const finish = (mark, what) => {
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      out.write(`${out.isTTY ? '\r\u001b[K' : ''}${mark} ${step.name.padEnd(9)} ${seconds.padStart(6)} s  ${what}\n`);
    };
    try {
      const act = async () => ((await step.isDone()) ? 'made ready by another process' : await step.run(say));
      const onWait = (pid) => say(`waiting for process ${pid}, which is doing this (${step.lock()})`);
      finish('\u2713', await (step.lock ? withLock(step.lock(), act, onWait) : act()));
    } catch (error) {
      finish('\u2717', 'failed');
      throw isOfFiles(error) ? new StepError(`${error.message}\nBy hand: ${FILES_BY_HAND}`) : error;
    }
  }
}

const FILES_BY_HAND = 'make the directory writable and free some space, or set XDG_CACHE_HOME to a directory that is';

/** Whether the operating system refused to make, write or remove a file. */
function isOfFiles(error) {
  // So Node says that a directory cannot be made on a read-only file system.
  if (error?.code === 'ENOENT' && error.syscall === 'mkdir') return true;
  return ['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'ENOTDIR', 'EEXIST'].includes(error?.code);
}

/** Runs a command; its output is shown only where it fails. */
function runCommand(command, words, byHand) {
  return new Promise((resolve, reject) => {
    const isWindowsScript = process.platform === 'win32' && command === 'npm';
    const child = spawn(command, words, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'], shell: isWindowsScript });
    const end = () => child.kill();
    process.once('exit', end);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
      });
    }
    child.on('close', () => process.removeListener('exit', end));
    const fail = (what) => reject(new StepError(`${output.trimEnd()}\n${what}\nBy hand: ${byHand}`.trimStart()));
    child.on('error', (error) => fail(`${command} cannot be run: ${error.message}`));
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else fail(`${command} ${words.join(' ')} ended with ${signal ?? `exit code ${code}`}.`);
    });
  });
}

/** Whether npm's own record of node_modules has every package of the lock file that this platform needs. */
function matchesInstalled(lock) {
  const record = readText(join(ROOT, 'node_modules', '.package-lock.json'));
  if (record === undefined) return false;
  const installed = JSON.parse(record).packages;
  return Object.entries(lock.packages).every(
    ([path, entry]) => path === '' || entry.optional || installed[path]?.version === entry.version,
  );
}

function sourcesHash() {
  const hash = createHash('sha256');
  for (const name of ['tsconfig.json', 'package-lock.json']) hash.update(readFileSync(join(ROOT, name)));
  for (const directory of [...SOURCE_DIRECTORIES, 'bootstrap']) {
    for (const path of filesBelow(join(ROOT, directory))
      .filter((name) => /\.m?ts$/.test(name))
      .sort()) {
      hash.update(`\0${relative(ROOT, path)}\0`).update(readFileSync(path));
    }
  }
  return hash.digest('hex');
}

/** Only what the compiler wrote, which is what has a source map; other things may live in dist/ too. */
function removeOrphans() {
  for (const directory of SOURCE_DIRECTORIES) {
    for (const map of filesBelow(join(ROOT, 'dist', directory)).filter((name) => name.endsWith('.js.map'))) {
      const compiled = map.slice(0, -'.map'.length);
      const source = join(ROOT, relative(join(ROOT, 'dist'), compiled)).replace(/\.js$/, '.ts');
      if (existsSync(source)) continue;
      rmSync(compiled, { force: true });
      rmSync(map, { force: true });
    }
  }
}

function filesBelow(directory) {
  if (!statSync(directory, { throwIfNoEntry: false })) return [];
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

/** Where a real cluster is meant, no server is started here. */
function isServerElsewhere() {
  return ['TEMPORAL_ADDRESS', 'TEMPORAL_PROFILE', 'TEMPORAL_CONFIG_FILE'].some((name) => process.env[name]);
}

function readText(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}
