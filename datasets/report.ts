/**
 * The report of a run: `results.json`, `samples_<task>.jsonl`, `report.md` and `report.html` in its directory.
 *
 * Everything is read back from the shards and parts, so a report can be made anew at any time. Each file is complete or
 * not there.
 */
import { join } from 'node:path';
import { writeFileAtomic } from './files.js';
import { readPart } from './output.js';
import { type ReportedTask, type ReportFacts, type RunFacts, type RunWork, tasksOf } from './report-facts.js';
import { type Gallery, openGallery } from './report-gallery.js';
import { reportHtml } from './report-html.js';
import { reportMarkdown } from './report-markdown.js';
import { resultsJson } from './report-results.js';
import { openSampleFile, type SampleFile } from './report-samples.js';
import type { Metrics, ShardReference } from './rows.js';
import { metricsOf, type Sample, type ShardRows, scoreRun, type TaskScores } from './score.js';
import { readShard } from './shard.js';

export interface ReportSource extends RunFacts {
  /** Absolute. */
  readonly runDir: string;
  readonly shards: readonly {
    readonly shard: ShardReference;
    /** Of its part, relative to the run directory. */
    readonly part: string;
  }[];
}

export interface Report {
  readonly metrics: Metrics;
  readonly scores: readonly TaskScores[];
  /** Absolute paths. */
  readonly files: {
    readonly results: string;
    readonly markdown: string;
    readonly html: string;
    readonly samples: readonly string[];
  };
}

/**
 * Scores the run and writes its report.
 *
 * @throws InputError naming the part, where rows are missing or doubled, and where the directory cannot be written.
 */
export async function writeReport(source: ReportSource): Promise<Report> {
  const { runDir, shards, ...run } = source;
  const at = (name: string) => join(runDir, name);
  const tasks = tasksOf(source);
  const log = openLog(tasks, runDir);
  try {
    const scores = await scoreRun(tasks, readShards(source, log.open), log.add);
    const { taskHashes, sampleFiles } = log.finish();
    const facts: ReportFacts = {
      ...run,
      totals: totalsOf(source, scores),
      scores,
      parts: shards.map(({ part }) => part),
      sampleFiles,
    };
    const files = {
      results: at('results.json'),
      markdown: at('report.md'),
      html: at('report.html'),
      samples: Object.values(sampleFiles).map(at),
    };
    writeFileAtomic(files.markdown, reportMarkdown(facts));
    writeFileAtomic(files.html, reportHtml(facts, log.galleries()));
    // Last: who finds it, finds the others too.
    writeFileAtomic(files.results, resultsJson(facts, taskHashes));
    return { metrics: metricsOf(scores), scores, files };
  } finally {
    log.close();
  }
}

function totalsOf({ totals }: ReportSource, scores: readonly TaskScores[]): RunWork {
  const sum = (key: 'rows' | 'errors' | 'promptTokens' | 'generatedTokens') =>
    scores.reduce((total, task) => total + task[key], 0);
  const { seconds, shards, reusedShards, recovered, notes } = totals;
  const [rows, errors, promptTokens, generatedTokens] = [
    sum('rows'),
    sum('errors'),
    sum('promptTokens'),
    sum('generatedTokens'),
  ];
  return {
    ...{ rows, errors, promptTokens, generatedTokens, seconds, shards, reusedShards },
    ...(recovered && { recovered }),
    ...(notes && { notes }),
  };
}

async function* readShards(
  { runDir, shards }: ReportSource,
  onOpen: (shard: ShardReference) => void,
): AsyncIterable<ShardRows> {
  for (const { shard, part } of shards) {
    onOpen(shard);
    yield {
      part,
      prompts: readShard(join(runDir, shard.path), shard.sha256),
      answers: await readPart(join(runDir, part)),
    };
  }
}

interface Log {
  /** Samples that follow are of this shard. */
  open(shard: ShardReference): void;
  add(sample: Sample): void;
  finish(): { readonly taskHashes: Record<string, string>; readonly sampleFiles: Record<string, string> };
  galleries(): ReadonlyMap<string, readonly Sample[]>;
  close(): void;
}

/** Rows of scored tasks go to their sample files, and a few of every task are kept to be shown. */
function openLog(tasks: readonly ReportedTask[], runDir: string): Log {
  const files = new Map<string, SampleFile>();
  const galleries = new Map<string, Gallery>();
  let current: ShardReference | undefined;
  return {
    open(shard) {
      current = shard;
      const task = tasks.find(({ name }) => name === shard.task);
      if (task !== undefined && !files.has(task.name))
        files.set(task.name, openSampleFile(join(runDir, sampleName(task.name)), task));
      if (!galleries.has(shard.task)) galleries.set(shard.task, openGallery());
    },
    add(sample) {
      const { task, ask } = current!;
      files.get(task)?.add(sample, ask);
      galleries.get(task)!.add(sample);
    },
    finish() {
      const hashes = Array.from(files, ([task, file]) => [task, file.finish()] as const);
      return {
        taskHashes: Object.fromEntries(hashes),
        sampleFiles: Object.fromEntries(hashes.map(([task]) => [task, sampleName(task)])),
      };
    },
    galleries: () => new Map(Array.from(galleries, ([task, gallery]) => [task, gallery.samples()])),
    close() {
      for (const file of files.values()) file.close();
    },
  };
}

function sampleName(task: string): string {
  return `samples_${task}.jsonl`;
}
