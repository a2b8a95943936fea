/** Machines to plan for: this one as it was measured, one that is shipped, or a profile in a file. */
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { offloadDirectory } from '../engine/offload-store.js';
import { type HardwareProfile, type MachineIdentity, usableBytes } from '../engine/policy/hardware.js';
import { formatHardware, parseHardware } from '../engine/policy/hardware-file.js';
import { hardwareProfiles, namedHardware } from '../engine/policy/profiles.js';
import { refinementOf, type StepComparison } from '../engine/policy/steps.js';
import { cacheDirectory } from './bootstrap.js';
import { openStepsProgress } from './progress.js';

/** Where this machine's profile lies. */
export function measuredPath(): string {
  return join(cacheDirectory(), 'hardware.json');
}

/**
 * @param reference name of a shipped profile or a file; undefined: this machine
 * @throws InputError if there is none, or the file is none
 */
export function findHardware(reference: string | undefined): HardwareProfile {
  if (reference === undefined) {
    const profile = keptHardware();
    if (profile) return profile;
    const names = [...hardwareProfiles.keys()].join(', ');
    throw new InputError(
      `this machine is not measured yet, or has changed since: run zigzag doctor, or plan for another one with --hardware (${names})`,
    );
  }
  if (hardwareProfiles.has(reference)) return namedHardware(reference);
  const path = resolve(reference);
  return existsSync(path) ? read(path) : namedHardware(reference);
}

/**
 * As this machine was measured; undefined where it was not, or its processor has changed. Its rates hold in a container with
 * less memory too, which has only room for less.
 */
export function keptHardware(): HardwareProfile | undefined {
  const profile = existsSync(measuredPath()) ? readMeasured() : undefined;
  const machine = machineIdentity();
  if (profile?.machine?.processor !== machine.processor || profile.machine.cores !== machine.cores) return undefined;
  return { ...profile, machine, capacityBytes: { ...profile.capacityBytes, cpu: usableBytes(machine.memoryBytes) } };
}

/** Where runs are kept beside what was expected of them, a line each. */
function comparisonsPath(): string {
  return join(cacheDirectory(), 'hardware-runs.jsonl');
}

/** Keeps what a run took beside what was expected of it, for `refinedHardware`. */
export function keepComparison(comparison: StepComparison): void {
  mkdirSync(cacheDirectory(), { recursive: true });
  appendFileSync(comparisonsPath(), `${JSON.stringify({ at: new Date().toISOString(), ...comparison })}\n`);
}

/**
 * This machine's profile with what its runs since the measurement say of it.
 *
 * @throws InputError where the machine is not measured, or nothing has run since
 */
export function refinedHardware(now = new Date()): HardwareProfile {
  const profile = keptHardware();
  if (!profile) throw new InputError('this machine is not measured yet, or has changed since: run zigzag doctor first');
  const path = comparisonsPath();
  const lines = existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  const runs = lines
    .map((line) => JSON.parse(line) as StepComparison & { readonly at: string })
    .filter(({ at }) => at >= (profile.measured ?? ''));
  if (runs.length === 0) {
    throw new InputError(
      'nothing to refine by: no run has ended since this machine was measured; run a pipeline, or zigzag bench',
    );
  }
  const refined = { ...profile, refined: refinementOf(runs, now) };
  keep(measuredPath(), refined);
  return refined;
}

/** What tells this machine from another. */
export function machineIdentity(): MachineIdentity {
  // A container's own limit is below the machine's memory.
  const memoryBytes = Math.min(process.constrainedMemory?.() || totalmem(), totalmem());
  return { processor: cpus()[0]?.model.trim() ?? 'unknown', cores: availableParallelism(), memoryBytes };
}

/**
 * This machine's profile: as it was measured, or measured now where it was not, where the hardware changed, or anew.
 *
 * @param anew measures in any case
 */
export async function measuredHardware({ anew, signal }: { readonly anew: boolean; readonly signal: AbortSignal }) {
  const kept = anew ? undefined : keptHardware();
  if (kept) return kept;
  // Loads the kernels' library, which no other command should wait for.
  const { measureHardware } = await import('../engine/measure.js');
  const progress = openStepsProgress('measuring');
  try {
    const directory = offloadDirectory({ cacheDir: cacheDirectory() });
    const profile = await measureHardware({
      machine: machineIdentity(),
      directory,
      signal,
      onProgress: progress.update,
    });
    keep(measuredPath(), profile);
    return profile;
  } finally {
    progress.stop();
  }
}

/** Whole or not at all. */
function keep(path: string, profile: HardwareProfile): void {
  mkdirSync(cacheDirectory(), { recursive: true });
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, formatHardware(profile), { flush: true });
  renameSync(draft, path);
}

/** It may be of another version, or changed by hand. */
function readMeasured(): HardwareProfile {
  try {
    return read(measuredPath());
  } catch (error) {
    throw new InputError(`${(error as Error).message}; zigzag doctor --measure writes it anew`);
  }
}

function read(path: string): HardwareProfile {
  return parseHardware(readFileSync(path, 'utf8'), path);
}
