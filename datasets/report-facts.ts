/**
 * What a report tells, in whatever form: the run, its scores, where its files are.
 */
import type { Sample, ScoredTask, TaskScores } from './score.js';
import type { Pipeline } from './spec.js';
import type { Task } from './tasks.js';

/** What was run, and what it took. Plain data. */
export interface RunFacts {
  readonly pipeline: Pick<Pipeline, 'name' | 'path' | 'model' | 'work' | 'engine' | 'limit' | 'seed'>;
  readonly fingerprint: string;
  readonly engineVersion: string;
  /** What is worth saying of the model: its family, size, file. Shown as given. */
  readonly modelFacts: Readonly<Record<string, string | number>>;
  /** Does this run again. */
  readonly command: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  readonly totals: Pick<RunWork, 'seconds' | 'shards' | 'reusedShards'>;
}

export interface RunWork {
  readonly rows: number;
  readonly errors: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Of computing; shards that were there already took none. */
  readonly seconds: number;
  readonly shards: number;
  readonly reusedShards: number;
}

export interface ReportFacts extends RunFacts {
  readonly totals: RunWork;
  readonly scores: readonly TaskScores[];
  /** Paths relative to the run directory. */
  readonly parts: readonly string[];
  readonly sampleFiles: Readonly<Record<string, string>>;
}

/** Rows to look at, by task. */
export type Galleries = ReadonlyMap<string, readonly Sample[]>;

export type ReportedTask = Task & ScoredTask;

/** The tasks of the run; none where it generates over a table. */
export function tasksOf({ pipeline: { work } }: Pick<RunFacts, 'pipeline'>): readonly ReportedTask[] {
  if (work.kind !== 'tasks') return [];
  return work.tasks.map((task) => ({
    ...task,
    optionPrefix: work.applyChatTemplate ? '' : task.wording.targetDelimiter,
  }));
}

/** Generated tokens a second, prefill included; null where parts were reused, whose time is not known, or none was spent. */
export function generationThroughput({ generatedTokens, seconds, reusedShards }: RunWork): number | null {
  return reusedShards > 0 || seconds <= 0 || generatedTokens === 0 ? null : generatedTokens / seconds;
}
