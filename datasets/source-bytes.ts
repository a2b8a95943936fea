/**
 * The bytes of a text file, gzip undone, and their lines.
 */
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { InputError } from './errors.js';

const newline = 0x0a;
const carriageReturn = 0x0d;

/** @throws InputError where the file cannot be read, is damaged gzip, or is text of another width than UTF-8. */
export async function* fileBytes(path: string): AsyncGenerator<Buffer, void, undefined> {
  try {
    let first = true;
    for await (const chunk of (await startsWithGzipMark(path)) ? gunzipped(path) : createReadStream(path)) {
      const bytes = chunk as Buffer;
      yield first ? withoutMark(path, bytes) : bytes;
      first = false;
    }
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Lines without their ends, counted from 1. */
export async function* fileLines(path: string): AsyncGenerator<{ line: number; bytes: Buffer }, void, undefined> {
  let pending: Buffer[] = [];
  let line = 1;
  const finish = (last: Buffer) => {
    const bytes = pending.length === 0 ? last : Buffer.concat([...pending, last]);
    pending = [];
    return { line: line++, bytes: bytes.at(-1) === carriageReturn ? bytes.subarray(0, -1) : bytes };
  };
  for await (const chunk of fileBytes(path)) {
    let start = 0;
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      yield finish(chunk.subarray(start, end));
      start = end + 1;
    }
    if (start < chunk.length) pending.push(chunk.subarray(start));
  }
  if (pending.length > 0) yield finish(Buffer.alloc(0));
}

/** What went wrong with a file as a whole; an InputError is passed on. */
export function unreadable(path: string, error: unknown): InputError {
  if (error instanceof InputError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const message = error instanceof Error ? error.message : String(error);
  if (code === 'ENOENT') return new InputError(`${path}: no such file; correct the path`, { cause: error });
  if (code === 'EISDIR') return new InputError(`${path}: a directory; name its files`, { cause: error });
  if (code === 'EACCES') return new InputError(`${path}: may not be read; change its permissions`, { cause: error });
  if (code.startsWith('Z_')) {
    return new InputError(`${path}: damaged or truncated gzip (${message}); fetch the file again`, { cause: error });
  }
  return new InputError(`${path}: cannot be read (${message}); is it complete, and of the format its name says?`, {
    cause: error,
  });
}

async function startsWithGzipMark(path: string): Promise<boolean> {
  for await (const chunk of createReadStream(path, { end: 1 })) {
    const bytes = chunk as Buffer;
    return bytes[0] === 0x1f && bytes[1] === 0x8b;
  }
  return false;
}

function gunzipped(path: string) {
  // The callback is required; the error itself reaches whoever reads the stream.
  return pipeline(createReadStream(path), createGunzip(), () => {});
}

/** Without UTF-8's byte order mark; UTF-16's is refused. */
function withoutMark(path: string, bytes: Buffer): Buffer {
  const [a, b, c] = bytes;
  if (a === 0xef && b === 0xbb && c === 0xbf) return bytes.subarray(3);
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) {
    throw new InputError(`${path}: is UTF-16; convert it to UTF-8, for example with iconv -f UTF-16 -t UTF-8`);
  }
  return bytes;
}
