/** `zigzag run`: a pipeline, from its file to its report. */
import type { Command } from 'commander';
import type { RunResult } from '../../activities/contracts.js';
import type { RunFile } from '../../activities/run-file.js';
import type { Pipeline } from '../../datasets/spec.js';
import { cacheDirectory } from '../bootstrap.js';
import { typedCommand } from '../command-line.js';
import type { TemporalConnection } from '../connection.js';
import { interruptible } from '../interrupt.js';
import { appendLog } from '../log.js';
import { obtainModel } from '../model-pull.js';
import { requireModel } from '../model-store.js';
import { collected, wholeNumber } from '../options.js';
import { note, print, printJson } from '../print.js';
import { openBytesProgress, openRunProgress } from '../progress.js';
import type { StartedRun } from '../run-workflow.js';
import { runJson, runSummary, type SummaryContext } from '../summary.js';
import { coloursFor } from '../terminal.js';

export interface PipelineFlags {
  readonly set?: readonly string[];
  readonly limit?: number;
}

interface RunFlags extends PipelineFlags {
  readonly runDir?: string;
  readonly queue?: string;
  readonly detach?: boolean;
  readonly keep?: boolean;
  readonly measure: boolean;
  readonly json?: boolean;
}

/** Options of every command that takes a pipeline. */
export function addPipelineOptions(command: Command): Command {
  return command
    .option('--set <key=value>', 'change a key of the pipeline, such as engine.threads=2; may be repeated', collected)
    .option('--limit <n>', 'only the first n rows of each task, or of the table', wholeNumber(1));
}

export function addRun(program: Command): void {
  const run = program
    .command('run')
    .description('run a pipeline; killed at any moment, the same command finishes it')
    .argument('<pipeline>', 'YAML file, such as pipelines/quickstart.yaml');
  addPipelineOptions(run)
    .option('--run-dir <dir>', 'where shards, outputs and the report go')
    .option('--queue <name>', 'let the workers of this queue compute, and none here')
    .option('--detach', 'start the run for `zigzag worker` to compute, and return')
    .option('--no-measure', 'do not measure a machine that was not measured before')
    .option('--keep', 'leave the local Temporal server running afterwards')
    .option('--json', 'end stdout with one JSON object')
    .action(runPipeline);
}

async function runPipeline(path: string, flags: RunFlags): Promise<void> {
  const { loadPipeline } = await import('../../datasets/spec.js');
  const pipeline = loadPipeline(path, {
    overrides: flags.set ?? [],
    ...(flags.limit === undefined ? {} : { limit: flags.limit }),
    ...(flags.runDir === undefined ? {} : { runDir: flags.runDir }),
  });
  const view = openRunProgress();
  const resume = `Interrupted. What is answered is kept; this goes on with the rest:\n  ${typedCommand()}`;
  const stopping = () => view.note('Stopping; Ctrl-C again leaves at once.');
  await interruptible(
    async (signal) => {
      const file = await prepare(pipeline, signal);
      if (flags.measure && !flags.detach && !flags.queue) await measureOnce(pipeline, signal, view.note);
      const [{ openConnection }, { logTemporalTo }] = await Promise.all([
        import('../connection.js'),
        import('../../activities/temporal-log.js'),
      ]);
      logTemporalTo(appendLog);
      // A detached run needs the server after this command has ended.
      const keep = (flags.keep || flags.detach) ?? false;
      const temporal = await openConnection({ keep, signal, report: view.note });
      try {
        await execute({ file, temporal, flags, view, signal });
      } finally {
        view.stop();
        await temporal.close();
      }
    },
    stopping,
    resume,
  );
}

/** Finds most mistakes before a server is started: in the model, and in a directory that is another run's. */
async function prepare(pipeline: Pipeline, signal: AbortSignal): Promise<RunFile> {
  const download = openBytesProgress(pipeline.model);
  const options = { signal, report: download.note, onProgress: download.update };
  const modelPath = await obtainModel(pipeline.model, options).finally(download.stop);
  const { prepareRunDirectory } = await import('../../activities/run-file.js');
  return prepareRunDirectory({ pipeline, modelPath, cacheDir: cacheDirectory(), command: typedCommand() });
}

/** Within a budget the policy is searched for this machine, so its rates have to be known. */
async function measureOnce({ engine }: Pipeline, signal: AbortSignal, report: (line: string) => void): Promise<void> {
  if (engine.hostMemoryBytes === undefined || engine.policy !== 'auto') return;
  const { keptHardware, measuredHardware } = await import('../hardware.js');
  if (keptHardware()) return;
  report(
    'This machine is not measured yet: measuring it once, about two minutes, to find the best policy for the budget.',
  );
  await measuredHardware({ anew: false, signal });
}

interface Execution {
  readonly file: RunFile;
  readonly temporal: TemporalConnection;
  readonly flags: RunFlags;
  readonly view: ReturnType<typeof openRunProgress>;
  readonly signal: AbortSignal;
}

async function execute({ file, temporal, flags, view, signal }: Execution): Promise<void> {
  const [{ executeRun, startDetached }, { openEngine }] = await Promise.all([
    import('../run-workflow.js'),
    import('../engine.js'),
  ]);
  const queue = flags.queue === undefined ? {} : { queue: flags.queue };
  if (flags.detach) {
    reportDetached(await startDetached({ file, temporal, ...queue }), temporal, flags);
    return;
  }
  let started: StartedRun | undefined;
  const result = await executeRun({
    file,
    temporal,
    cacheDir: cacheDirectory(),
    openEngine,
    resolveModel: requireModel,
    ...queue,
    onStarted: (run) => {
      started = run;
      view.note(heading(file.pipeline, run));
    },
    report: view.note,
    onProgress: view.update,
    signal,
  });
  view.stop();
  report(result, { uiAddress: started?.url, uiStops: temporal.isLocal && !flags.keep }, flags);
}

function heading({ name, model, work }: Pipeline, { url, resumed }: StartedRun): string {
  const colours = coloursFor(process.stderr);
  const what = work.kind === 'tasks' ? work.tasks.map((task) => task.name).join(', ') : work.source.files.join(', ');
  const first = `${colours.bold(name)} ${colours.dim(`${model} \u00b7 ${what}`)}${resumed ? ' (going on with a run that was under way)' : ''}`;
  return url ? `${first}\n${colours.dim('Temporal UI')} ${colours.cyan(url)}` : first;
}

function report(result: RunResult, ui: Omit<SummaryContext, 'out'>, { json }: RunFlags): void {
  const out = json ? process.stderr : process.stdout;
  out.write(`${runSummary(result, { ...ui, out })}\n`);
  if (json) printJson(runJson(result));
}

function reportDetached(run: StartedRun, temporal: TemporalConnection, { queue, json }: RunFlags): void {
  if (json) printJson(run);
  else print(`${run.workflowId} is started; its outputs and report go to ${run.runDir}`);
  note(`It is computed by: zigzag worker${queue === undefined ? '' : ` --queue ${queue}`}`);
  note(`Where it stands: zigzag status ${run.runDir}`);
  if (temporal.isLocal) note('The local Temporal server stays until `zigzag ui --stop`.');
}
