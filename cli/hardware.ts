/** Machines to plan for: this one as it was measured, one that is shipped, or a profile in a file. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { InputError } from '../datasets/errors.js';
import { type HardwareProfile, parseHardware } from '../engine/policy/hardware.js';
import { hardwareProfiles, namedHardware } from '../engine/policy/profiles.js';
import { cacheDirectory } from './bootstrap.js';

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
    const path = measuredPath();
    if (existsSync(path)) return read(path);
    const names = [...hardwareProfiles.keys()].join(', ');
    throw new InputError(
      `this machine is not measured yet: run zigzag doctor --measure, or plan for another one with --hardware (${names})`,
    );
  }
  if (hardwareProfiles.has(reference)) return namedHardware(reference);
  const path = resolve(reference);
  return existsSync(path) ? read(path) : namedHardware(reference);
}

function read(path: string): HardwareProfile {
  return parseHardware(readFileSync(path, 'utf8'), path);
}
