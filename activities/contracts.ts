/**
 * What the workflow asks of the world, and what it gets back. Types only: workflows import nothing else.
 *
 * References to files travel through Temporal, never rows: a payload stays below a few kilobytes, a page of shards below
 * a hundred.
 */
import type { Recovered, RunWork } from '../datasets/report-facts.js';
import type { Metrics, ShardReference } from '../datasets/rows.js';

/** Everything a run is made from; written to `run.json` before the workflow starts. */
export interface RunInput {
  /** Absolute path of the run directory, on a file system that every worker sees. */
  readonly runDir: string;
  readonly name: string;
  /** Identity of the run: everything that can change an answer. */
  readonly fingerprint: string;
}

/** Input of the workflow `runPipeline`. */
export interface RunPipelineInput {
  readonly run: RunInput;
  /** Queue of the workers that have a device. */
  readonly deviceQueue: string;
  /** Shards that are asked for at once; more than there are devices, so that none waits for the workflow. */
  readonly windowSize: number;
  /** Shards of one workflow execution, after which it continues as new; so its history stays short. */
  readonly shardsPerExecution: number;
  /** Where an earlier execution of the same run left off. */
  readonly resumed?: ResumedRun;
}

export interface ResumedRun {
  readonly nextShard: number;
  readonly totals: RunTotals;
  /** Rows whose parts were not there already. */
  readonly computedRows: number;
  /** When the first shard was asked for, in milliseconds since 1970. */
  readonly inferringSince: number;
}

/** Input of the workflow `scheduledRun`: the pipeline is read anew at each firing. */
export interface ScheduledRunInput {
  readonly pipeline: PipelineReference;
  /** Each firing runs in a directory below this one, named after its time. */
  readonly runsDir: string;
  readonly deviceQueue: string;
  readonly windowSize: number;
  readonly shardsPerExecution: number;
}

/** A pipeline file with what the command line changed. */
export interface PipelineReference {
  /** Absolute. */
  readonly path: string;
  readonly overrides: readonly string[];
  readonly limit?: number;
}

export interface PrepareInput {
  readonly pipeline: PipelineReference;
  readonly runDir: string;
}

export interface PlanInput {
  readonly run: RunInput;
  /** The page of shards that is wanted. */
  readonly firstShard: number;
  readonly maxShards: number;
}

export interface PlannedRun {
  readonly rows: number;
  /** Of the whole run. */
  readonly shardCount: number;
  /** The page that was asked for. */
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
  /** Absent where nothing was taken up from an earlier attempt. */
  readonly recovered?: Recovered;
  /** What went wrong and was got over; a few. */
  readonly notes?: readonly string[];
}

export interface ReportInput {
  readonly run: RunInput;
  readonly totals: RunTotals;
}

/** Counts of a run so far, or of all of it. */
export type RunTotals = RunWork;

/** The result of the workflow: what `run --json` prints is made of it. */
export interface RunResult extends RunTotals {
  readonly runDir: string;
  /** Parts, relative to the run directory. */
  readonly outputs: readonly string[];
  readonly metrics: Metrics;
}

/** On the queue of the plan: no device needed. */
export interface PlanActivities {
  /** Makes the directory of a scheduled run, as the command line does for one that is started by hand. */
  prepareRun(input: PrepareInput): Promise<RunInput>;
  /** Reads the source, renders the prompts and writes the shards, unless the manifest is there; returns a page of it. */
  planRun(input: PlanInput): Promise<PlannedRun>;
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
  /** Where the checkpoints lie, relative to the run directory. The truth is there, this only points to it. */
  readonly checkpoint?: string;
  /** Of this attempt. */
  readonly checkpointsWritten?: number;
}

/** Answer of the workflow's `progress` query. */
export interface RunProgress extends RunTotals {
  readonly stage: 'planning' | 'inferring' | 'paused' | 'scoring' | 'done';
  readonly plannedShards: number;
  readonly doneShards: number;
  readonly plannedRows: number;
}
