/**
 * What a report tells, in whatever form: the run, its scores, where its files are.
 */
import { count, duration } from './report-format.js';
import type { Sample, ScoredTask, TaskScores } from './score.js';
import type { Pipeline } from './spec.js';
import type { Task } from './tasks.js';

/** Seconds, as they were expected on a machine that is measured, and as they were; sums over shards. */
export interface RunSteps {
  readonly shards: number;
  readonly predicted: Steps;
  readonly measured: Steps;
}

type Steps = Readonly<Record<'products' | 'attention' | 'waiting' | 'all', number>>;

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
  /** Null where nothing was expected. */
  readonly steps: RunSteps | null;
  readonly totals: Pick<RunWork, 'seconds' | 'shards' | 'reusedShards' | 'recovered' | 'notes'>;
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
  /** Absent where no shard went on in the middle. */
  readonly recovered?: Recovered;
  /** What went wrong and was got over, such as a disk too full for checkpoints; the first few. */
  readonly notes?: readonly string[];
}

/** What shards that were under way when a worker died did not compute again, and what they did; sums over shards. */
export interface Recovered {
  readonly shards: number;
  /** Rows whose answers were kept. */
  readonly answers: number;
  /** Sequences that went on in the middle. */
  readonly sequences: number;
  /** Generated tokens of both. */
  readonly tokensKept: number;
  readonly promptTokensAgain: number;
  readonly generatedTokensAgain: number;
  /** Sweeps whose work was lost, and the most that could have been: one period of checkpoints. */
  readonly sweepsAgain: number;
  readonly periodSweeps: number;
  /** Positions whose keys and values were read back, and those computed anew from their tokens. */
  readonly positionsRead: number;
  readonly positionsRebuilt: number;
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

/** Generated tokens a second, prefill included; null where none was spent, or tokens were there whose time is not known. */
export function generationThroughput({ generatedTokens, seconds, reusedShards, recovered }: RunWork): number | null {
  return reusedShards > 0 || recovered || seconds <= 0 || generatedTokens === 0 ? null : generatedTokens / seconds;
}

/** "2 shards went on in the middle: ..." for people; undefined where none did. */
export function recoveredText({ recovered }: Pick<RunWork, 'recovered'>): string | undefined {
  if (!recovered) return undefined;
  const { shards, answers, sequences, tokensKept, promptTokensAgain, generatedTokensAgain } = recovered;
  const again = count(promptTokensAgain + generatedTokensAgain);
  const what = shards === 1 ? 'one shard' : `${count(shards)} shards`;
  return `${what} went on in the middle: ${count(sequences)} sequences resumed and ${count(answers)} answers kept, ${count(tokensKept)} tokens in all, ${again} computed again`;
}

/** For people: what took how long, by how much it missed what was expected. */
export function stepRows({
  predicted,
  measured,
}: RunSteps): [what: string, expected: string, found: string, off: string][] {
  const names = { products: 'products and norms', attention: 'attention', waiting: 'waiting for the disk', all: 'all' };
  return (Object.keys(names) as (keyof typeof names)[]).map((step) => {
    const [expected, found] = [predicted[step], measured[step]];
    const off = expected > 0 ? `${(100 * (found / expected - 1)).toFixed(0)} %` : '';
    return [names[step], duration(expected), duration(found), off];
  });
}
