/** What the workflow meets, in place of files and engines: counts. Each shard has ten rows, of which one has an error. */
import { Context } from '@temporalio/activity';
import type { DeviceActivities, PlanActivities, ShardInput, ShardOutcome } from '../../activities/contracts.js';
import type { ShardReference } from '../../datasets/rows.js';

const ROWS = 10;

export type World = ReturnType<typeof openWorld>;

export interface WorldOptions {
  readonly shards: number;
  readonly act?: (input: ShardInput) => Promise<unknown>;
  readonly outcome?: (shard: ShardReference) => Partial<ShardOutcome>;
}

export function openWorld({ shards, act, outcome }: WorldOptions) {
  const world = { pages: [] as number[], answered: [] as number[], reports: 0, running: 0, mostAtOnce: 0 };
  const all = Array.from(
    { length: shards },
    (_, index): ShardReference => ({
      index,
      path: `shards/${index}.arrow`,
      rows: ROWS,
      sha256: '',
      task: 'capitals',
      ask: { kind: 'score' },
      promptTokens: 0,
    }),
  );
  const plan: PlanActivities = {
    prepareRun: () => Promise.reject(new Error('not scheduled')),
    async planRun({ firstShard, maxShards }) {
      world.pages.push(firstShard);
      return { rows: shards * ROWS, shardCount: shards, shards: all.slice(firstShard, firstShard + maxShards) };
    },
    async reportRun({ run: { runDir }, totals }) {
      world.reports += 1;
      return { ...totals, runDir, outputs: [], metrics: {} };
    },
  };
  const device: DeviceActivities = {
    async inferShard(input) {
      world.running += 1;
      world.mostAtOnce = Math.max(world.mostAtOnce, world.running);
      // Cancellation arrives with heartbeats.
      const beat = setInterval(() => Context.current().heartbeat(), 50);
      try {
        await act?.(input);
      } finally {
        clearInterval(beat);
        world.running -= 1;
      }
      const { index } = input.shard;
      world.answered.push(index);
      const counts = { rows: ROWS, errors: 1, promptTokens: 100, generatedTokens: 50, seconds: 2, reused: false };
      return { index, path: `outputs/${index}.parquet`, ...counts, ...outcome?.(input.shard) };
    },
  };
  return Object.assign(world, { plan, device });
}
