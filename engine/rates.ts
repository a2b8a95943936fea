/** What this machine reaches when it does nothing else: a product of the model's own shape, and reading its file. */
import { availableParallelism } from 'node:os';
import { openOnnx } from './backends/onnx.js';
import type { MachineRates } from './bound.js';
import { alignedBuffer, BLOCK_BYTES, viewOf } from './memory/aligned-buffer.js';
import { openDirect } from './memory/direct-file.js';
import { float32Matrix } from './memory/packed.js';
import type { ModelConfig } from './model/config.js';
import { seededRandom } from './model/random.js';
import { DEFAULT_BUFFERS, MAX_PART_BYTES } from './policy/policy.js';

export interface RateRequest {
  readonly config: ModelConfig;
  /** Of the product: as many as a sweep has. */
  readonly rows: number;
  readonly threads?: number | undefined;
  /** What is read, past the page cache where the file system allows it. */
  readonly file: string;
}

/** Long enough to be steady, short enough not to be noticed. */
const MEASURE_MILLISECONDS = 600;

/** Takes a second or two, and this thread meanwhile. */
export async function measureRates(request: RateRequest): Promise<MachineRates> {
  return { flopsPerSecond: await measureProducts(request), diskBytesPerSecond: await measureReads(request.file) };
}

/** Values of the matrix at most: 64 MB, beyond which products are no faster. */
const MAX_VALUES = 16e6;

/** The fastest of several: a bound is what can be reached, not what is usual. */
async function measureProducts({ config, rows, threads }: RateRequest): Promise<number> {
  const { hiddenSize, ffnSize } = config;
  const outputs = Math.max(1, Math.min(ffnSize, Math.floor(MAX_VALUES / hiddenSize)));
  const random = seededRandom(0);
  const filled = (values: number) => Float32Array.from({ length: values }, () => random.next() - 0.5);
  const input = filled(rows * hiddenSize);
  const matrix = float32Matrix(filled(outputs * hiddenSize), [outputs, hiddenSize]);
  const backend = await openOnnx(config, { threads: threads ?? availableParallelism() });
  try {
    await backend.multiply(input, matrix);
    let fastest = Number.POSITIVE_INFINITY;
    const end = performance.now() + MEASURE_MILLISECONDS;
    do {
      const start = performance.now();
      await backend.multiply(input, matrix);
      fastest = Math.min(fastest, performance.now() - start);
    } while (performance.now() < end);
    return (2 * rows * outputs * hiddenSize) / (fastest / 1000);
  } finally {
    await backend.close();
  }
}

/** Reads parts one after the other, as many at a time as the engine has buffers, round and round. */
async function measureReads(path: string): Promise<number> {
  const file = openDirect(path, 'read');
  try {
    const wholeBlocks = Math.floor(file.sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
    if (wholeBlocks === 0) return Number.POSITIVE_INFINITY;
    const partBytes = Math.min(MAX_PART_BYTES, wholeBlocks);
    const start = performance.now();
    const end = start + MEASURE_MILLISECONDS;
    let [offset, bytes] = [0, 0];
    const readInto = async (buffer: Uint8Array) => {
      do {
        if (offset + partBytes > wholeBlocks) offset = 0;
        const from = offset;
        offset += partBytes;
        await file.read(buffer, from, 'parts for measuring the disk');
        bytes += partBytes;
      } while (performance.now() < end);
    };
    const buffers = Array.from({ length: DEFAULT_BUFFERS }, () => viewOf(alignedBuffer(partBytes, file)));
    await Promise.all(buffers.map(readInto));
    return bytes / ((performance.now() - start) / 1000);
  } finally {
    await file.close();
  }
}
