/** Where the part of a shard lies. */
export function partPath(shardIndex: number): string {
  return `outputs/${String(shardIndex).padStart(5, '0')}.parquet`;
}
