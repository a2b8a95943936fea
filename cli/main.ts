/**
 * The command line: `zigzag COMMAND`. Parses, calls, and turns every end into an exit code.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { addBench } from './commands/bench.js';
import { addDoctor } from './commands/doctor.js';
import { addGenerate } from './commands/generate.js';
import { addModel } from './commands/model.js';
import { addPlan } from './commands/plan.js';
import { addRun } from './commands/run.js';
import { addRuns } from './commands/runs.js';
import { addSchedule } from './commands/schedule.js';
import { addTasks } from './commands/tasks.js';
import { addUi } from './commands/ui.js';
import { addWorker } from './commands/worker.js';
import { explain } from './failures.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

// A reader that has seen enough (`zigzag tasks list | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
// Thrown where nobody can catch it, such as in a timer of a library: still one message, and the trace in the log.
process.on('uncaughtException', (error) => process.exit(explain(error)));
const exitCode = await main(process.argv.slice(2));
// Not left to an empty event loop: Temporal's native part keeps it busy where a connection failed.
process.stdout.write('', () => process.stderr.write('', () => process.exit(exitCode)));

/** @returns the exit code: 0 done, 1 failed, 2 bad input, 130 interrupted. */
async function main(words: readonly string[]): Promise<number> {
  const program = createProgram();
  if (words.length === 0) {
    program.outputHelp();
    return 0;
  }
  try {
    await program.parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    // Commander has said already what is wrong with the command line.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    return explain(error);
  }
}

function createProgram(): Command {
  const program = new Command('zigzag')
    .description('Runs a large language model over a large dataset, loses no work, and shows it in the Temporal UI.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false })
    .addHelpText(
      'after',
      [
        '',
        'Examples:',
        '  $ zigzag run pipelines/quickstart.yaml',
        '  $ zigzag generate smollm2-135m-instruct --chat --prompt "Why is the sky blue?"',
        '',
        'Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted (the same command resumes).',
        'TEMPORAL_ADDRESS, or a Temporal profile, selects a cluster; without one a local server is started.',
      ].join('\n'),
    )
    .exitOverride();
  for (const add of [
    addRun,
    addPlan,
    addGenerate,
    addBench,
    addWorker,
    addRuns,
    addUi,
    addSchedule,
    addModel,
    addTasks,
    addDoctor,
  ]) {
    add(program);
  }
  return program;
}
