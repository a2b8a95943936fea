/** What of all that Zigzag can use is on this machine, and what to do about what is not. */
import { execFile } from 'node:child_process';
import { readFileSync, statfsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { cacheDirectory, DEFAULT_MODEL } from './bootstrap.js';
import { listModels } from './model-store.js';
import { findTemporalBinary } from './temporal-binary.js';
import { findLocalServer } from './temporal-server.js';
import { formatBytes } from './terminal.js';

/** `missing` stops something from working; `note` only makes it slower or says what is not used. */
export interface Finding {
  readonly name: string;
  readonly state: 'ok' | 'note' | 'missing';
  readonly found: string;
  /** What to do, where something is missing. */
  readonly advice?: string;
  /** The same for programs. */
  readonly details: Readonly<Record<string, unknown>>;
}

/** Less than this and `npm start` may swap: all processes together stay below 2.5 GiB. */
const NEEDED_MEMORY_BYTES = 2.5 * 2 ** 30;
/** Packages, the model, the server's program, and room for a run. */
const NEEDED_DISK_BYTES = 2e9;
/** Instruction sets that the matrix products are several times faster with. */
const CPU_FLAGS = ['avx2', 'fma', 'f16c', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_int8', 'amx_bf16'];

export async function examine(): Promise<Finding[]> {
  return [
    node(),
    processor(),
    memory(),
    await disk(),
    await temporalProgram(),
    await temporalServer(),
    await pip(),
    models(),
    await gpu(),
  ];
}

function node(): Finding {
  const found = `${process.versions.node} (${process.platform} ${process.arch})`;
  return {
    name: 'Node',
    state: 'ok',
    found,
    details: { version: process.versions.node, platform: process.platform, arch: process.arch },
  };
}

function processor(): Finding {
  const model = cpus()[0]?.model.trim() ?? 'unknown';
  const cores = availableParallelism();
  const flags = cpuFlags();
  const details = { model, cores, flags };
  const found = `${cores} ${cores === 1 ? 'core' : 'cores'}, ${model}${flags ? `, ${flags.join(' ') || 'no vector extensions'}` : ''}`;
  if (flags && !flags.includes('avx2')) {
    return {
      name: 'Processor',
      state: 'note',
      found,
      advice: 'without AVX2 everything works, and several times slower',
      details,
    };
  }
  return { name: 'Processor', state: 'ok', found, details };
}

/** Undefined where the system does not tell. */
function cpuFlags(): string[] | undefined {
  const line = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readText('/proc/cpuinfo') ?? '')?.[1];
  if (line === undefined) return undefined;
  const all = new Set(line.split(' '));
  return CPU_FLAGS.filter((flag) => all.has(flag));
}

function memory(): Finding {
  const available = /^MemAvailable:\s*(\d+) kB$/m.exec(readText('/proc/meminfo') ?? '')?.[1];
  const availableBytes = available === undefined ? freemem() : Number(available) * 1024;
  // A container's own limit is not in /proc/meminfo.
  const limitBytes = process.constrainedMemory?.() || totalmem();
  const totalBytes = Math.min(limitBytes, totalmem());
  const found = `${gib(availableBytes)} free of ${gib(totalBytes)}`;
  const details = { totalBytes, availableBytes };
  if (Math.min(availableBytes, totalBytes) >= NEEDED_MEMORY_BYTES)
    return { name: 'Memory', state: 'ok', found, details };
  return {
    name: 'Memory',
    state: 'note',
    found,
    advice: `the default pipeline wants ${gib(NEEDED_MEMORY_BYTES)}; close something`,
    details,
  };
}

async function disk(): Promise<Finding> {
  const path = cacheDirectory();
  try {
    await mkdir(path, { recursive: true });
    const { bavail, bsize } = statfsSync(path);
    const freeBytes = bavail * bsize;
    const finding = { name: 'Cache', found: `${path}, ${formatBytes(freeBytes)} free`, details: { path, freeBytes } };
    if (freeBytes >= NEEDED_DISK_BYTES) return { ...finding, state: 'ok' };
    return { ...finding, state: 'note', advice: `free some space: ${formatBytes(NEEDED_DISK_BYTES)} is comfortable` };
  } catch (error) {
    const found = `${path} cannot be used: ${(error as Error).message}`;
    return {
      name: 'Cache',
      state: 'missing',
      found,
      advice: 'make it writable, or set XDG_CACHE_HOME',
      details: { path },
    };
  }
}

async function temporalProgram(): Promise<Finding> {
  const program = await findTemporalBinary();
  if (program) {
    const { version, path, origin } = program;
    return {
      name: 'Temporal',
      state: 'ok',
      found: `${version}, ${path} (${origin})`,
      details: { version, path, origin },
    };
  }
  const { TEMPORAL_ADDRESS: address } = process.env;
  if (address)
    return { name: 'Temporal', state: 'ok', found: `not needed: TEMPORAL_ADDRESS is ${address}`, details: { address } };
  return {
    name: 'Temporal',
    state: 'missing',
    found: 'no program yet',
    advice: 'node bootstrap.mjs fetches it',
    details: {},
  };
}

async function temporalServer(): Promise<Finding> {
  const server = await findLocalServer();
  if (!server)
    return { name: 'Server', state: 'ok', found: 'none runs; a run starts one', details: { running: false } };
  const { address, uiAddress, pid, dbFile } = server;
  return {
    name: 'Server',
    state: 'ok',
    found: `${address}, UI ${uiAddress}`,
    details: { running: true, address, uiAddress, pid, dbFile },
  };
}

async function pip(): Promise<Finding> {
  const version = await firstLine('python3', ['-m', 'pip', '--version']);
  if (version) return { name: 'pip', state: 'ok', found: version, details: { version } };
  const advice = `without it ${DEFAULT_MODEL.name} comes from the Hugging Face hub, in another form`;
  return { name: 'pip', state: 'note', found: 'not found', advice, details: {} };
}

function models(): Finding {
  const names = listModels().map((model) => model.name);
  if (names.length > 0) return { name: 'Models', state: 'ok', found: names.join(', '), details: { names } };
  return {
    name: 'Models',
    state: 'missing',
    found: 'none',
    advice: `zigzag model pull ${DEFAULT_MODEL.name}`,
    details: { names },
  };
}

async function gpu(): Promise<Finding> {
  const name = await firstLine('nvidia-smi', ['--query-gpu=name,memory.total', '--format=csv,noheader']);
  if (name)
    return { name: 'GPU', state: 'note', found: name, advice: 'this version computes on the CPU', details: { name } };
  return { name: 'GPU', state: 'ok', found: 'none; the CPU computes', details: {} };
}

/** Undefined where the program is absent or fails. */
async function firstLine(command: string, words: readonly string[]): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(command, words, { timeout: 10_000 });
    return stdout.split('\n', 1)[0];
  } catch {
    return undefined;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
