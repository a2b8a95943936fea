/**
 * Rows of a Parquet file, one row group in memory at a time.
 */
import { asyncBufferFromFile, type FileMetaData, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { SourceRecord } from './source.js';
import { unreadable } from './source-bytes.js';
import { plainValue } from './source-values.js';

export async function* parquetRecords(path: string): AsyncGenerator<SourceRecord, void, undefined> {
  const { file, metadata } = await opened(path);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const rows = await parquetReadObjects({ file, metadata, rowStart, rowEnd, compressors }).catch((error: unknown) => {
      throw unreadable(path, error);
    });
    for (const [i, row] of rows.entries())
      yield { at: `row ${rowStart + i + 1}`, values: plainValue(row) as Record<string, unknown> };
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
