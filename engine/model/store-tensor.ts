/** Tensors on their way from a source to a store: read in slices, packed, written region by region. */
import { EngineError } from '../errors.js';
import type { DirectFile } from '../memory/direct-file.js';
import { FLOAT16_MAX, fromFloat16, toFloat16 } from '../memory/float16.js';
import { GROUP_SIZE, quantize } from '../memory/quantize.js';
import type { StorePlanTensor, StoreRegion } from './store.js';
import { isGrouped, rowValues } from './store.js';
import type { SummedRegion } from './store-header.js';
import { RegionWriter } from './store-region.js';
import type { WeightSource } from './weights.js';

/** Values of one slice: 8 MiB as float32, or one group of rows where that is more. */
const SLICE_VALUES = 2 * 1024 * 1024;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** Scales and minima are a thirty-second of their values. */
const SCALE_CHUNK_BYTES = 256 * 1024;

type RegionName = 'data' | 'scale' | 'min';

export class TensorWriter {
  /** Whether every value so far was stored as it was. */
  lossless = true;
  private readonly writers: Readonly<Record<RegionName, RegionWriter>>;

  constructor(
    private readonly source: WeightSource,
    file: DirectFile,
  ) {
    this.writers = {
      data: new RegionWriter(file, CHUNK_BYTES),
      scale: new RegionWriter(file, SCALE_CHUNK_BYTES),
      min: new RegionWriter(file, SCALE_CHUNK_BYTES),
    };
  }

  /** @param report called with the bytes of each slice; may throw. */
  async write(
    tensor: StorePlanTensor,
    report: (bytes: number) => void,
  ): Promise<{ data: SummedRegion; scale?: SummedRegion; min?: SummedRegion }> {
    const { shape, regions } = tensor;
    const names = (Object.keys(regions) as RegionName[]).filter((name) => regions[name] !== undefined);
    for (const name of names) this.writers[name].begin(regions[name]!);
    const [rows, columns] = [shape[0]!, rowValues(shape)];
    const sliceRows = Math.max(1, Math.floor(SLICE_VALUES / columns / GROUP_SIZE)) * GROUP_SIZE;
    const slice = new Float32Array(Math.min(rows, sliceRows) * columns);
    for (let start = 0; start < rows; start += sliceRows) {
      const end = Math.min(rows, start + sliceRows);
      const values = slice.subarray(0, (end - start) * columns);
      await this.readJoined(tensor, start, end, values);
      const packed = this.pack(tensor, start, values);
      for (const name of names) await this.writers[name].append(packed[name]!);
      report(names.reduce((sum, name) => sum + packed[name]!.length, 0));
    }
    const summed = async (name: RegionName, region: StoreRegion): Promise<SummedRegion> => ({
      ...region,
      sha256: await this.writers[name].end(),
    });
    const data = await summed('data', regions.data);
    if (regions.scale === undefined || regions.min === undefined) return { data };
    return { data, scale: await summed('scale', regions.scale), min: await summed('min', regions.min) };
  }

  /** Rows [start, end) of the joined tensor, whichever sources they come from. */
  private async readJoined({ sources, shape }: StorePlanTensor, start: number, end: number, into: Float32Array) {
    const columns = rowValues(shape);
    let first = 0;
    for (const { name, rows } of sources) {
      const [from, to] = [Math.max(start, first), Math.min(end, first + rows)];
      if (from < to) {
        const target = into.subarray((from - start) * columns, (to - start) * columns);
        await this.source.read(name, from - first, to - first, target);
      }
      first += rows;
    }
  }

  private pack(
    tensor: StorePlanTensor,
    rowStart: number,
    values: Float32Array,
  ): Partial<Record<RegionName, Uint8Array>> {
    if (tensor.type === 'float32') return { data: bytesOf(values) };
    checkRange(tensor, rowStart, values);
    if (!isGrouped(tensor.type)) {
      const halves = toFloat16(values);
      if (this.lossless) this.lossless = isEqual(fromFloat16(halves), values);
      return { data: bytesOf(halves) };
    }
    this.lossless = false;
    const columns = rowValues(tensor.shape);
    const bits = tensor.type === 'int4' ? 4 : 8;
    const { data, scale, min } = quantize(values, [values.length / columns, columns], 0, bits);
    return { data, scale: bytesOf(scale), min: bytesOf(min) };
  }
}

/** @throws BAD_WEIGHTS naming the first value that float16 cannot hold. */
function checkRange(tensor: StorePlanTensor, rowStart: number, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    if (Math.abs(values[i]!) <= FLOAT16_MAX) continue;
    const row = rowStart + Math.floor(i / rowValues(tensor.shape));
    const names = tensor.sources.map(({ name }) => name).join(' + ');
    throw new EngineError(
      'BAD_WEIGHTS',
      `${names}: row ${row} holds ${values[i]}, needed at most ${FLOAT16_MAX} in size; import the model as fp32`,
      { tensor: names, row, found: values[i] },
    );
  }
}

function isEqual(a: Float32Array, b: Float32Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function bytesOf(values: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
