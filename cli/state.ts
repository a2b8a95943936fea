/** Where the programs of one user on one machine keep what they share while they run. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { makeDirectory } from '../datasets/files.js';

export function stateDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_STATE_HOME || join(env.HOME || homedir(), '.local', 'state'), 'zigzag');
}

/** Held by whoever computes on the device. @throws InputError where the directory cannot be written */
export function deviceLockPath(device: string): string {
  const directory = join(stateDirectory(), 'devices');
  makeDirectory(directory);
  return join(directory, `${device.replace(/[^\w.-]/g, '-')}.lock`);
}
