/** The command line as a user or a script runs it: another process, its output, its exit code. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What `node` runs: the compiled command line itself, without the set-up that `npx zigzag` does first. */
export const mainPath = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The last line of stdout, parsed; undefined where it is no JSON. */
  readonly json: unknown;
}

/** Runs to the end. `env` is added to this process's own. */
export function zigzag(words: readonly string[], env: NodeJS.ProcessEnv = {}): Ended {
  const { status, stdout, stderr } = spawnSync(process.execPath, [mainPath, ...words], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: 50_000,
  });
  return { code: status, stdout, stderr, json: parsed(stdout.trimEnd().split('\n').at(-1) ?? '') };
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
