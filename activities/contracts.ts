/**
 * What the workflow asks of the world, and what it gets back. Types only: workflows import nothing else.
 *
 * References to files travel through Temporal, never rows: a payload stays below a few kilobytes.
 */
import type { Metrics, ShardReference } from '../datasets/rows.js';

/** Everything a run is made from; written to `run.json` before the workflow starts. */
export interface RunInput {
  /** Absolute path of the run directory, on a file system that every worker sees. */
  readonly runDir: string;
  readonly name: string;
  /** Identity of the run: everything that can change an answer. */
  readonly fingerprint: string;
}

export interface PlannedRun {
  readonly rows: number;
  readonly shards: readonly ShardReference[];
}

export interface ShardInput {
  readonly run: RunInput;
  readonly shard: ShardReference;
}

export interface ShardOutcome {
  readonly index: number;
  /** Of the part, relative to the run directory. */
  readonly path: string;
  readonly rows: number;
  readonly errors: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Of computing; 0 where the part was there already. */
  readonly seconds: number;
  readonly reused: boolean;
}

export interface ReportInput {
  readonly run: RunInput;
  readonly totals: RunTotals;
}

export interface RunTotals {
  readonly rows: number;
  readonly errors: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly seconds: number;
  readonly shards: number;
  readonly reusedShards: number;
}

/** The result of the workflow: what `run --json` prints is made of it. */
export interface RunResult extends RunTotals {
  readonly runDir: string;
  readonly outputs: readonly string[];
  readonly metrics: Metrics;
}

/** On the queue of the plan: no device needed. */
export interface PlanActivities {
  /** Reads the source, renders the prompts and writes the shards; does nothing if the manifest is there. */
  planRun(input: RunInput): Promise<PlannedRun>;
  /** Reads all parts, writes `results.json`, `report.md` and `report.html`. */
  reportRun(input: ReportInput): Promise<RunResult>;
}

/** On the queue of a device, one at a time. */
export interface DeviceActivities {
  /** Answers one shard and writes its part; returns at once if a part with the right hash is there. */
  inferShard(input: ShardInput): Promise<ShardOutcome>;
}

/** Details of an activity's heartbeat, readable in the Temporal UI. */
export interface ShardHeartbeat {
  readonly shard: string;
  readonly rowsDone: number;
  readonly rows: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly tokensPerSecond: number;
}

/** Answer of the workflow's `progress` query. */
export interface RunProgress extends RunTotals {
  readonly stage: 'planning' | 'inferring' | 'scoring' | 'done';
  readonly plannedShards: number;
  readonly doneShards: number;
  readonly plannedRows: number;
}
