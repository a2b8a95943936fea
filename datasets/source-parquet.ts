/**
 * Rows of a Parquet file, one row group in memory at a time.
 */
import {
  asyncBufferFromFile,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { SourceRecord } from './source.js';
import { unreadable } from './source-bytes.js';
import { plainValue } from './source-values.js';

export async function* parquetRecords(path: string): AsyncGenerator<SourceRecord, void, undefined> {
  const { file, metadata } = await opened(path);
  const decimals = decimalColumns(metadata);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await parquetReadObjects({ file, metadata, rowStart, rowEnd, compressors }).catch((error: unknown) => {
      throw unreadable(path, error);
    });
    for (const [i, row] of rows.entries()) yield { at: `row ${rowStart + i + 1}`, values: plainRow(row, decimals) };
    rowStart = rowEnd;
  }
}

async function opened(
  path: string,
): Promise<{ file: Awaited<ReturnType<typeof asyncBufferFromFile>>; metadata: FileMetaData }> {
  try {
    const file = await asyncBufferFromFile(path);
    return { file, metadata: await parquetMetadataAsync(file) };
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** Columns of decimals, with their digits after the point. */
function decimalColumns(metadata: FileMetaData): ReadonlyMap<string, number> {
  const columns = parquetSchema(metadata).children.filter(({ element }) => element.converted_type === 'DECIMAL');
  return new Map(columns.map(({ element }) => [element.name, element.scale ?? 0]));
}

/** A decimal keeps its digits after the point, as it does in an Arrow file. */
function plainRow(row: Record<string, unknown>, decimals: ReadonlyMap<string, number>): Record<string, unknown> {
  const values = plainValue(row) as Record<string, unknown>;
  for (const [name, scale] of decimals) {
    const value = values[name];
    if (typeof value === 'number') values[name] = value.toFixed(scale);
  }
  return values;
}
