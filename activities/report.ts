/** The report of a run, from its directory. */
import { InputError } from '../datasets/errors.js';
import { writeReport } from '../datasets/report.js';
import { readManifest } from '../datasets/shard.js';
import type { ReportInput, RunResult } from './contracts.js';
import { readSteps } from './expectation.js';
import { partPath } from './parts.js';
import { readRunFile } from './run-file.js';

/** Scores the parts and writes `results.json`, `report.md` and `report.html`; may be repeated at any time. */
export async function reportRun({ run, totals }: ReportInput): Promise<RunResult> {
  const { runDir } = run;
  const file = readRunFile(runDir);
  const manifest = readManifest(runDir);
  if (!manifest) throw new InputError(`${runDir}: has no shards; run the same command again`);
  const shards = manifest.shards.map((shard) => ({ shard, part: partPath(shard.index) }));
  const { metrics } = await writeReport({
    runDir,
    shards,
    pipeline: file.pipeline,
    fingerprint: file.fingerprint,
    engineVersion: file.engineVersion,
    modelFacts: file.modelFacts,
    command: file.command,
    startedAt: file.createdAt,
    steps: readSteps(runDir),
    totals,
  });
  return { ...totals, runDir, outputs: shards.map(({ part }) => part), metrics };
}
