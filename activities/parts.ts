/** Where the parts of a run lie: one for each shard, under its number. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const directory = 'outputs';

/** Relative to the run directory. */
export function partPath(shardIndex: number): string {
  return `${directory}/${String(shardIndex).padStart(5, '0')}.parquet`;
}

/** Removes parts of an earlier plan that had more shards: whoever reads all files would meet their rows twice. */
export function removePartsFrom(runDir: string, shardCount: number): void {
  const outputs = join(runDir, directory);
  if (!existsSync(outputs)) return;
  for (const name of readdirSync(outputs)) {
    const index = /^(\d+)\.parquet$/.exec(name)?.[1];
    if (index !== undefined && Number(index) >= shardCount) rmSync(join(outputs, name));
  }
}
