/**
 * What was to be expected of a shard, on a machine that is measured, and what it took: kept with the run, beside the parts,
 * which hold no clock.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, writeFileAtomic } from '../datasets/files.js';
import type { RunSteps } from '../datasets/report-facts.js';
import type { EngineSettings } from '../datasets/spec-engine.js';
import { DEFAULT_WEIGHT_BITS } from '../engine/offload-store.js';
import type { HardwareProfile } from '../engine/policy/hardware.js';
import { type Prediction, predictPolicy, weightTypeOf } from '../engine/policy/plan.js';
import type { Planning } from '../engine/policy/planned.js';
import { addSteps, measuredSteps, type StepComparison } from '../engine/policy/steps.js';
import type { EngineInfo } from '../engine/requests.js';
import type { TraceTotals } from '../engine/trace.js';

const DIRECTORY = 'steps';

export interface Expecting {
  readonly profile: HardwareProfile;
  readonly settings: EngineSettings;
  readonly info: Pick<EngineInfo, 'config' | 'policy'>;
}

/** What the policy that the engine runs by will take. */
export function expectationOf({ profile, settings, info }: Expecting, work: Planning['work']): Prediction {
  const { config, policy } = info;
  const { weightBits, hostMemoryBytes } = settings;
  const bits = weightBits ?? (hostMemoryBytes === undefined ? 32 : DEFAULT_WEIGHT_BITS);
  const unbounded = Number.POSITIVE_INFINITY;
  const study = {
    config,
    profile,
    workload: { ...work, contextTokens: Math.ceil(work.promptTokens + work.newTokens) },
    overlap: policy.overlap,
    capacityBytes: { gpu: 0, cpu: unbounded, disk: unbounded },
  };
  return predictPolicy(study, policy, weightTypeOf(bits));
}

/**
 * A run beside its prediction for the rows that it turned out to compute: completions may end early, and beginnings are
 * shared.
 *
 * @param totals of this run alone
 * @returns undefined where nothing was computed
 */
export function compareSteps(
  expecting: Expecting,
  sequences: number,
  totals: TraceTotals,
  seconds: number,
): StepComparison | undefined {
  if (sequences === 0 || totals.promptRows === 0) return undefined;
  const { refined: _, ...profile } = expecting.profile;
  const work = {
    numSequences: sequences,
    promptTokens: totals.promptRows / sequences,
    newTokens: 1 + totals.decodeRows / sequences,
  };
  const { steps } = expectationOf({ ...expecting, profile }, work);
  return { predicted: steps, measured: measuredSteps(totals, seconds) };
}

/** Keeps it as `steps/SHARD.json`. */
export function keepSteps(runDir: string, shardIndex: number, comparison: StepComparison): void {
  makeDirectory(join(runDir, DIRECTORY));
  const name = `${String(shardIndex).padStart(5, '0')}.json`;
  writeFileAtomic(join(runDir, DIRECTORY, name), `${JSON.stringify(comparison)}\n`);
}

/** Of all shards of which it is known; null where it is of none. */
export function readSteps(runDir: string): RunSteps | null {
  const directory = join(runDir, DIRECTORY);
  const names = existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.json')) : [];
  const all = names.map((name) => JSON.parse(readFileSync(join(directory, name), 'utf8')) as StepComparison);
  if (all.length === 0) return null;
  return {
    shards: all.length,
    predicted: all.map(({ predicted }) => predicted).reduce(addSteps),
    measured: all.map(({ measured }) => measured).reduce(addSteps),
  };
}
