/**
 * Reads the header of a GGUF file forward, through a window of bytes.
 *
 * Counts and lengths come from the file, so each is compared with what is left of it before anything is allocated.
 */
import { EngineError } from '../errors.js';
import type { RangedFile } from './ranged-file.js';

export type NumericArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** A value of the metadata. 64-bit integers are numbers where a double holds them exactly. */
export type GgufValue = number | bigint | boolean | string | readonly string[] | readonly boolean[] | NumericArray;

const windowBytes = 1024 * 1024;

/** Above any real header (the largest vocabularies give some 20 MB), far below what would exhaust memory. */
const maxHeaderBytes = 256 * 1024 * 1024;

const boolType = 7;
const stringType = 8;
const arrayType = 9;

/** Value types of fixed size, by number: bytes, one value, many values. */
const scalars: Readonly<Record<number, Scalar>> = {
  0: { bytes: 1, one: (view, at) => view.getUint8(at), many: (buffer) => new Uint8Array(buffer) },
  1: { bytes: 1, one: (view, at) => view.getInt8(at), many: (buffer) => new Int8Array(buffer) },
  2: { bytes: 2, one: (view, at) => view.getUint16(at, true), many: (buffer) => new Uint16Array(buffer) },
  3: { bytes: 2, one: (view, at) => view.getInt16(at, true), many: (buffer) => new Int16Array(buffer) },
  4: { bytes: 4, one: (view, at) => view.getUint32(at, true), many: (buffer) => new Uint32Array(buffer) },
  5: { bytes: 4, one: (view, at) => view.getInt32(at, true), many: (buffer) => new Int32Array(buffer) },
  6: { bytes: 4, one: (view, at) => view.getFloat32(at, true), many: (buffer) => new Float32Array(buffer) },
  7: {
    bytes: 1,
    one: (view, at) => view.getUint8(at) !== 0,
    many: (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte !== 0),
  },
  10: { bytes: 8, one: (view, at) => exact(view.getBigUint64(at, true)), many: (buffer) => new BigUint64Array(buffer) },
  11: { bytes: 8, one: (view, at) => exact(view.getBigInt64(at, true)), many: (buffer) => new BigInt64Array(buffer) },
  12: { bytes: 8, one: (view, at) => view.getFloat64(at, true), many: (buffer) => new Float64Array(buffer) },
};

interface Scalar {
  readonly bytes: number;
  readonly one: (view: DataView, at: number) => number | bigint | boolean;
  readonly many: (buffer: ArrayBuffer) => NumericArray | boolean[];
}

export class GgufReader {
  private window = new Uint8Array(0);
  private view = new DataView(this.window.buffer);
  private windowStart = 0;
  private at = 0;

  constructor(private readonly file: RangedFile) {}

  /** Offset in the file of what is read next. */
  get position(): number {
    return this.windowStart + this.at;
  }

  async uint32(what: string): Promise<number> {
    await this.require(4, what);
    return this.view.getUint32(this.advance(4), true);
  }

  /** A 64-bit count or length of things of at least `bytesEach`. */
  async count(what: string, bytesEach: number): Promise<number> {
    await this.require(8, what);
    return this.checkedCount(what, bytesEach);
  }

  /** A 64-bit offset. */
  async offset(what: string): Promise<number> {
    await this.require(8, what);
    const value = exact(this.view.getBigUint64(this.advance(8), true));
    if (typeof value === 'number') return value;
    throw this.damaged(`${what} is ${value}, beyond any file`);
  }

  async text(what: string): Promise<string> {
    const lengthBytes = await this.count(what, 1);
    await this.require(lengthBytes, what);
    return this.textOf(lengthBytes);
  }

  async value(type: number, what: string): Promise<GgufValue> {
    if (type === stringType) return this.text(what);
    if (type === arrayType) return this.array(what);
    const scalar = this.scalar(type, what);
    await this.require(scalar.bytes, what);
    return scalar.one(this.view, this.advance(scalar.bytes));
  }

  damaged(what: string): EngineError {
    const { path, sizeBytes } = this.file;
    return new EngineError('BAD_WEIGHTS', `${path}: ${what}; the file is damaged, fetch it again`, {
      path,
      sizeBytes,
      offsetBytes: this.position,
    });
  }

  private async array(what: string): Promise<GgufValue> {
    const type = await this.uint32(what);
    if (type === stringType) return this.texts(await this.count(what, 8), what);
    const scalar = this.scalar(type, what);
    const bytes = (await this.count(what, scalar.bytes)) * scalar.bytes;
    await this.require(bytes, what);
    const start = this.advance(bytes);
    return scalar.many(this.window.slice(start, start + bytes).buffer);
  }

  private async texts(count: number, what: string): Promise<readonly string[]> {
    const texts: string[] = [];
    // A vocabulary has a hundred thousand of these: await only where the window ends.
    while (texts.length < count) texts.push(this.textInWindow(what) ?? (await this.text(what)));
    return texts;
  }

  private textInWindow(what: string): string | undefined {
    if (this.at + 8 > this.window.length) return undefined;
    const start = this.at;
    const lengthBytes = this.checkedCount(what, 1);
    if (this.at + lengthBytes <= this.window.length) return this.textOf(lengthBytes);
    this.at = start;
    return undefined;
  }

  private textOf(lengthBytes: number): string {
    const start = this.advance(lengthBytes);
    return Buffer.from(this.window.buffer, start, lengthBytes).toString('utf8');
  }

  private scalar(type: number, what: string): Scalar {
    const scalar = scalars[type];
    if (scalar !== undefined) return scalar;
    throw this.damaged(
      `${what} has type ${type}; known are 0 to 12 with ${boolType} a flag, ${stringType} a text, ${arrayType} an array (of no arrays)`,
    );
  }

  private checkedCount(what: string, bytesEach: number): number {
    const count = this.view.getBigUint64(this.advance(8), true);
    const leftBytes = this.limit - this.position;
    if (count * BigInt(bytesEach) <= leftBytes) return Number(count);
    throw this.damaged(`${what}: ${count} of at least ${bytesEach} B each, with ${leftBytes} B left`);
  }

  private get limit(): number {
    return Math.min(this.file.sizeBytes, maxHeaderBytes);
  }

  private advance(bytes: number): number {
    const start = this.at;
    this.at += bytes;
    return start;
  }

  /** Moves the window so that it holds the next `bytes`. */
  private async require(bytes: number, what: string): Promise<void> {
    if (this.at + bytes <= this.window.length) return;
    const start = this.position;
    if (start + bytes > this.limit)
      throw this.damaged(`${what}: needed ${bytes} B at offset ${start}, found ${this.limit - start} B`);
    const kept = this.window.subarray(this.at);
    const window = new Uint8Array(Math.min(Math.max(bytes, windowBytes), this.limit - start));
    window.set(kept.subarray(0, window.length));
    if (kept.length < window.length) await this.file.read(start + kept.length, window.subarray(kept.length), what);
    this.window = window;
    this.view = new DataView(window.buffer);
    this.windowStart = start;
    this.at = 0;
  }
}

function exact(value: bigint): number | bigint {
  const asNumber = Number(value);
  return Number.isSafeInteger(asNumber) ? asNumber : value;
}
