/** `zigzag run` as a process that can be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mainPath } from './command.js';

export interface RunProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<EndedRun>;
}

export interface EndedRun {
  readonly code: number | null;
  /** The last line of stdout, parsed; undefined where it is no object. */
  readonly result: unknown;
  readonly stderr: string;
}

/** @param words after `zigzag run`; `--json` is added */
export function startRun(words: readonly string[], env: NodeJS.ProcessEnv): RunProcess {
  const child = spawn(process.execPath, [mainPath, 'run', ...words, '--json'], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<EndedRun>((resolve) => {
    child.once('close', (code) => {
      // A test says only that the code was another; killed processes have none.
      if (code) console.error(stderr);
      const line = stdout.trimEnd().split('\n').at(-1) ?? '';
      resolve({ code, result: line.startsWith('{') ? JSON.parse(line) : undefined, stderr });
    });
  });
  return { child, ended };
}
