import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InputError } from '../../datasets/errors.js';
import { makeDirectory, openAtomic, writeFileAtomic } from '../../datasets/files.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-files-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('a file written at once', () => {
  it('holds the bytes it was given, in a directory made for it, and nothing else lies there', () => {
    const path = join(directory, 'new', 'report.md');
    writeFileAtomic(path, 'größe\n');
    expect(readFileSync(path, 'utf8')).toBe('größe\n');
    expect(readdirSync(join(directory, 'new'))).toEqual(['report.md']);
  });

  it('replaces an older file of its name', () => {
    const path = join(directory, 'results.json');
    writeFileAtomic(path, 'old');
    writeFileAtomic(path, Uint8Array.of(110, 101, 119));
    expect(readFileSync(path, 'utf8')).toBe('new');
  });

  it.each([
    [
      'the directory is a file',
      (at: string) => writeFileSync(join(at, 'taken'), ''),
      'taken/part.parquet',
      'not a directory',
    ],
    [
      'a directory has its name',
      (at: string) => mkdirSync(join(at, 'taken', 'x'), { recursive: true }),
      'taken',
      'directory',
    ],
  ])('is refused with the path and the reason where %s', (_, prepare, name, reason) => {
    prepare(directory);
    const write = () => writeFileAtomic(join(directory, name), 'x');
    expect(write).toThrow(InputError);
    expect(write).toThrow(new RegExp(`${name}.*${reason}`));
    expect(readdirSync(directory)).toEqual(['taken']);
  });
});

it.skipIf(process.platform !== 'linux')('a directory that the system does not make is refused, and named', () => {
  expect(() => writeFileAtomic('/proc/nothing/here/run.json', 'x')).toThrow(InputError);
  expect(() => writeFileAtomic('/proc/nothing/here/run.json', 'x')).toThrow(/\/proc\/nothing\/here.*directory/);
});

it('a directory is made with all above it, and made again it stays as it is', () => {
  const path = join(directory, 'a', 'b', 'c');
  makeDirectory(path);
  writeFileSync(join(path, 'kept'), '');
  makeDirectory(path);
  expect(readdirSync(path)).toEqual(['kept']);
});

describe('a file written in pieces', () => {
  it('has no name before commit, and its old content stays readable', () => {
    const path = join(directory, 'part');
    writeFileSync(path, 'old');
    const file = openAtomic(path);
    file.write(Uint8Array.of(1, 2));
    expect(readFileSync(path, 'utf8')).toBe('old');
    file.write(Uint8Array.of(3));
    file.commit();
    file.discard();
    expect([...readFileSync(path)]).toEqual([1, 2, 3]);
  });

  it('leaves nothing behind when it is discarded', () => {
    const file = openAtomic(join(directory, 'part'));
    file.write(Uint8Array.of(1));
    file.discard();
    expect(readdirSync(directory)).toEqual([]);
  });

  it('removes what a killed writer of the same file left, and nothing of its neighbours', () => {
    writeFileSync(join(directory, '.part.tmp-4711'), 'half');
    writeFileSync(join(directory, '.part2.tmp-4711'), 'half');
    writeFileAtomic(join(directory, 'part'), 'x');
    expect(readdirSync(directory).sort()).toEqual(['.part2.tmp-4711', 'part']);
  });
});
