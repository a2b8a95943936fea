/**
 * Weights that do not stay: parts of a few rows, read in the order of use, ahead of use.
 *
 * A ring of equal buffers holds what was read and not yet used. Whenever a buffer falls free the next part's read
 * starts, on other threads, while this one computes; so a sweep costs the longer of reading and computing. FlexGen
 * loads a layer's weights during its first GPU batch and then waits for everything; here the reads never pause.
 */
import type { TensorName } from '../model/layers.js';
import type { PackedMatrix } from './packed.js';
import type { WeightPart } from './placement.js';

/** Fills a buffer with a part; the matrix is a view of the buffer. */
export type LoadPart = (part: WeightPart, buffer: Uint8Array) => Promise<PackedMatrix>;

/** A part in memory, until it is given back. */
export interface LoadedPart extends WeightPart {
  readonly matrix: PackedMatrix;
  release(): void;
}

export interface WeightStreamOptions {
  /** Each large enough for any part; two at least, since gate and up are used together. */
  readonly buffers: readonly Uint8Array[];
  /** False reads each part only when it is asked for: the serial loop. */
  readonly overlap: boolean;
  /** Whether the parts pass once, rather than again in every sweep. */
  readonly once?: boolean;
  /** Told how long the caller waited for a part. */
  readonly onWait?: (seconds: number) => void;
}

/** Where parts are taken from, in their order. */
export type PartSource = Pick<WeightStream, 'count' | 'take'>;

export class WeightStream {
  private readonly free: Uint8Array[];
  private readonly ahead: { readonly buffer: Uint8Array; readonly loaded: Promise<LoadedPart> }[] = [];
  private readonly counts = new Map<string, number>();
  private nextRead = 0;
  private closed = false;

  /** @param parts in the order of use; the stream goes round them for ever, unless they pass once */
  constructor(
    private readonly parts: readonly WeightPart[],
    private readonly load: LoadPart,
    private readonly options: WeightStreamOptions,
  ) {
    this.free = [...options.buffers];
    for (const { layer, tensor } of parts) {
      const key = `${layer} ${tensor}`;
      this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
    }
  }

  /** How many parts of a tensor stream by in a sweep. */
  count(layer: number, tensor: TensorName): number {
    return this.counts.get(`${layer} ${tensor}`) ?? 0;
  }

  /** The next part, which must be the one that the caller expects. */
  async take(layer: number, tensor: TensorName): Promise<LoadedPart> {
    if (this.ahead.length === 0) this.readNext();
    const start = performance.now();
    const part = await this.ahead[0]!.loaded;
    this.ahead.shift();
    this.options.onWait?.((performance.now() - start) / 1000);
    if (part.layer !== layer || part.tensor !== tensor) {
      throw new Error(`the stream is at ${part.layer}.${part.tensor}, and ${layer}.${tensor} was asked for`);
    }
    return part;
  }

  /** Fills the ring. Called when a sweep starts; afterwards every release does. */
  fill(): void {
    while (this.options.overlap && this.free.length > 0 && this.hasNext && !this.closed) this.readNext();
  }

  /** Waits for the reads under way. */
  async close(): Promise<void> {
    this.closed = true;
    await this.rewind();
  }

  /** Back to the beginning of a sweep, after one that was given up in the middle; its parts are given back first. */
  async rewind(): Promise<void> {
    const ahead = this.ahead.splice(0);
    await Promise.allSettled(ahead.map(({ loaded }) => loaded));
    this.free.push(...ahead.map(({ buffer }) => buffer));
    this.nextRead = 0;
  }

  private get hasNext(): boolean {
    return this.nextRead < this.parts.length;
  }

  private readNext(): void {
    const part = this.parts[this.nextRead++]!;
    if (!this.hasNext && !this.options.once) this.nextRead = 0;
    const buffer = this.free.pop();
    if (!buffer) throw new Error('no free buffer: a part was not given back');
    const release = () => this.giveBack(buffer);
    const loaded = this.load(part, buffer).then((matrix) => ({ ...part, matrix, release }));
    // The error reaches whoever takes the part; until then it must not count as unhandled.
    loaded.catch(() => undefined);
    this.ahead.push({ buffer, loaded });
  }

  private giveBack(buffer: Uint8Array): void {
    this.free.push(buffer);
    this.fill();
  }
}

/** Of a model that is all in memory. */
export function noStream(): WeightStream {
  const load = () => Promise.reject(new Error('nothing streams'));
  return new WeightStream([], load, { buffers: [], overlap: false });
}
