/**
 * Rows of Arrow IPC, in the file form and in the stream form that the `datasets` library saves, one record batch in memory
 * at a time.
 */
import { open } from 'node:fs/promises';
import { CompressionType, compressionRegistry, DataType, type RecordBatch, RecordBatchReader } from 'apache-arrow';
import { decompressZstd } from 'hyparquet-compressors';
import { InputError } from './errors.js';
import type { SourceRecord } from './source.js';
import { unreadable } from './source-bytes.js';
import { decodeLz4Frame } from './source-lz4.js';
import { plainValue } from './source-values.js';

export async function* arrowRecords(path: string): AsyncGenerator<SourceRecord, void, undefined> {
  registerCodecs();
  const handle = await open(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  try {
    const reader = await RecordBatchReader.from(handle);
    let row = 0;
    for await (const batch of reader) {
      const columns = columnReaders(path, batch as RecordBatch);
      for (let i = 0; i < batch.numRows; i++) {
        row++;
        yield { at: `row ${row}`, values: Object.fromEntries(columns.map(([name, cell]) => [name, cell(i)])) };
      }
    }
    if (row === 0 && reader.schema === undefined) throw new InputError(`${path}: no Arrow data in it; is it complete?`);
  } catch (error) {
    throw unreadable(path, error);
  } finally {
    await handle.close();
  }
}

type Column = readonly [name: string, cell: (row: number) => unknown];

function columnReaders(path: string, batch: RecordBatch): Column[] {
  return batch.schema.fields.map(({ name, type }, i): Column => {
    const vector = batch.getChildAt(i);
    if (vector === null) throw new InputError(`${path}: the column "${name}" has no data; is the file complete?`);
    const convert = converterOf(type);
    return [name, (row) => convert(vector.get(row))];
  });
}

/** Arrow hands dates over as milliseconds, and decimals as digits without their point. */
function converterOf(type: DataType): (value: unknown) => unknown {
  if (DataType.isTimestamp(type) || DataType.isDate(type)) {
    return (value) => (value === null ? null : plainValue(new Date(Number(value))));
  }
  if (DataType.isDecimal(type)) return (value) => (value === null ? null : decimalText(String(value), type.scale));
  return plainValue;
}

function decimalText(digits: string, scale: number): string {
  if (scale <= 0) return digits + '0'.repeat(-scale);
  const sign = digits.startsWith('-') ? '-' : '';
  const padded = digits.slice(sign.length).padStart(scale + 1, '0');
  return `${sign}${padded.slice(0, -scale)}.${padded.slice(-scale)}`;
}

/** Arrow views the bytes as wider numbers, which have to begin where a buffer does. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
}

function registerCodecs(): void {
  compressionRegistry.set(CompressionType.ZSTD, { decode: (bytes) => aligned(decompressZstd(bytes)) });
  compressionRegistry.set(CompressionType.LZ4_FRAME, { decode: decodeLz4Frame });
}
