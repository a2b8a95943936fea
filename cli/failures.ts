/**
 * From an error to what a person reads and a script tests: one message, one exit code, never a bare stack trace.
 */
import { InputError } from '../datasets/errors.js';
import { EngineError, type EngineErrorCode } from '../engine/errors.js';
import { INTERRUPTED_EXIT_CODE, InterruptedError } from './interrupt.js';
import { appendLog } from './log.js';
import { coloursFor } from './terminal.js';

/** 0 done, 1 failed, 2 bad input, 130 interrupted. */
export type ExitCode = 0 | 1 | 2 | 130;

/** Whether the user can put it right by changing a file or an option; a new code does not compile until decided here. */
const isInput: Readonly<Record<EngineErrorCode, boolean>> = {
  BAD_INPUT: true,
  BAD_WEIGHTS: true,
  UNSUPPORTED: true,
  OUT_OF_MEMORY: true,
  CANCELLED: false,
  BACKEND: false,
};

/** A command that ran as it should and found that the answer is "failed": its message is all there is to say. */
export class FailedError extends Error {
  override readonly name: string = 'FailedError';
}

/** What the operating system says of a directory or disk that the user can do something about. */
const systemAdvice: Readonly<Record<string, string>> = {
  EACCES: 'change its permissions, or choose another directory',
  EPERM: 'change its permissions, or choose another directory',
  EROFS: 'choose a directory on a file system that can be written',
  ENOSPC: 'free some space and run the same command again',
  EDQUOT: 'free some space and run the same command again',
};

export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof InterruptedError) return INTERRUPTED_EXIT_CODE;
  if (error instanceof InputError) return 2;
  if (error instanceof EngineError && isInput[error.code]) return 2;
  if (adviceOf(error) !== undefined) return 2;
  return 1;
}

/** Says what went wrong on stderr and returns the exit code. What nobody expected is kept in a log file, in full. */
export function explain(error: unknown): ExitCode {
  const code = exitCodeOf(error);
  const colours = coloursFor(process.stderr);
  const advice = adviceOf(error);
  const message = `${error instanceof Error ? error.message : String(error)}${advice === undefined ? '' : `; ${advice}`}`;
  if (error instanceof InterruptedError) {
    process.stderr.write(`${message}\n`);
  } else if (code === 2 || error instanceof FailedError) {
    process.stderr.write(`${colours.red('error:')} ${message}\n`);
  } else {
    const log = writeLog(error);
    const where = log ? `; the details are in ${log}` : '';
    process.stderr.write(`${colours.red('error:')} ${firstLine(message)}${where}\n`);
  }
  if (process.env.ZIGZAG_DEBUG && error instanceof Error) process.stderr.write(`${stackOf(error)}\n`);
  return code;
}

function adviceOf(error: unknown): string | undefined {
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  // So Node says that a directory cannot be made on a read-only file system.
  if (code === 'ENOENT' && syscall === 'mkdir') return systemAdvice.EROFS;
  return syscall === undefined ? undefined : systemAdvice[code ?? ''];
}

/** @returns the path of the log, or undefined where none can be written. */
function writeLog(error: unknown): string | undefined {
  const heading = `${new Date().toISOString()} zigzag ${process.argv.slice(2).join(' ')}`;
  return appendLog(`${heading}\n${error instanceof Error ? stackOf(error) : String(error)}\n`);
}

function stackOf(error: Error): string {
  const own = error.stack ?? error.message;
  return error.cause instanceof Error ? `${own}\ncaused by ${stackOf(error.cause)}` : own;
}

function firstLine(message: string): string {
  return message.split('\n', 1)[0] || 'something failed without saying why';
}
