/** One region of `weights.bin` being written: bytes come in any portions and leave in whole blocks, past the page cache. */
import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { alignedBuffer, alignUp, viewOf } from '../memory/aligned-buffer.js';
import type { DirectFile } from '../memory/direct-file.js';
import type { StoreRegion } from './store.js';

export class RegionWriter {
  /** One is filled while the other is written. */
  private readonly chunks: readonly [Uint8Array, Uint8Array];
  private current = 0;
  private filled = 0;
  private offset = 0;
  private hash: Hash = createHash('sha256');
  private writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly file: DirectFile,
    chunkBytes: number,
  ) {
    this.chunks = [viewOf(alignedBuffer(chunkBytes, file)), viewOf(alignedBuffer(chunkBytes, file))];
  }

  begin({ offset }: StoreRegion): void {
    this.offset = offset;
    this.hash = createHash('sha256');
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.hash.update(bytes);
    for (let taken = 0; taken < bytes.length; ) {
      const chunk = this.chunks[this.current]!;
      const part = bytes.subarray(taken, taken + chunk.length - this.filled);
      chunk.set(part, this.filled);
      this.filled += part.length;
      taken += part.length;
      if (this.filled === chunk.length) await this.flush();
    }
  }

  /** @returns SHA-256 of the region's bytes, once they are written. */
  async end(): Promise<string> {
    await this.flush();
    await this.writing;
    return this.hash.digest('hex');
  }

  private async flush(): Promise<void> {
    await this.writing;
    const block = this.chunks[this.current]!.subarray(0, alignUp(this.filled));
    block.fill(0, this.filled);
    const writing = this.file.write(block, this.offset);
    // Whoever waits next learns of a failure; until then it must not count as unheard.
    writing.catch(() => undefined);
    this.writing = writing;
    this.offset += this.filled;
    this.filled = 0;
    this.current = 1 - this.current;
  }
}
