/**
 * The end of a sweep: which rows need logits, what of them, and who is told.
 *
 * Logits are computed only for the rows whose next token matters: the last row of each sequence, and those that score an
 * option or a prompt token.
 */
import type { Backend, HeadResult, LayerWeights } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import type { GenerateSequence, ScoreSequence } from '../sequence.js';
import type { SweepRows } from './gpu-batch.js';

interface HeadJob {
  readonly row: number;
  readonly top: number;
  readonly all: boolean;
  /** Tokens whose logits are wanted at this row. */
  readonly targets: readonly number[];
  readonly use: (outcome: RowOutcome) => void;
}

interface RowOutcome {
  readonly result: HeadResult;
  readonly row: number;
  readonly top: number;
  /** Log-probability of target i of the job. */
  readonly target: (index: number) => number;
}

/** Computes what the sweep's sequences need and hands it to them. */
export async function runHeads(
  backend: Backend,
  config: ModelConfig,
  weights: LayerWeights,
  rows: SweepRows,
  live: readonly GenerateSequence[],
  hidden: Float32Array,
): Promise<void> {
  const jobs = live.map((sequence, row) => nextToken(sequence, row));
  const finishers: (() => void)[] = [];
  for (const { sequence, start, end } of rows.newcomers) {
    if (sequence.kind === 'score') {
      const { scoring, finish } = scoreJobs(sequence, start);
      jobs.push(...scoring);
      finishers.push(finish);
      continue;
    }
    if (!sequence.finished) jobs.push(nextToken(sequence, end - 1));
    if (sequence.request.promptLogprobs) {
      const { scoring, finish } = promptJobs(sequence, start);
      jobs.push(...scoring);
      finishers.push(finish);
    }
  }
  for (const [all, scored] of [
    [false, false],
    [false, true],
    [true, false],
  ]) {
    const group = jobs.filter((job) => job.all === all && job.targets.length > 0 === scored);
    if (group.length > 0) await runGroup(backend, config, weights, group, hidden);
  }
  for (const finish of finishers) finish();
}

async function runGroup(
  backend: Backend,
  config: ModelConfig,
  weights: LayerWeights,
  jobs: readonly HeadJob[],
  hidden: Float32Array,
): Promise<void> {
  const { hiddenSize } = config;
  const gathered = new Float32Array(jobs.length * hiddenSize);
  jobs.forEach(({ row }, i) => {
    gathered.set(hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize), i * hiddenSize);
  });
  const top = Math.min(config.vocabSize, Math.max(...jobs.map((job) => job.top)));
  const perRow = Math.max(...jobs.map(({ targets }) => targets.length));
  const ids = new Int32Array(jobs.length * perRow);
  jobs.forEach(({ targets }, i) => {
    ids.set(targets, i * perRow);
  });
  const all = jobs[0]!.all;
  const result = await backend.head(weights, {
    hidden: gathered,
    top,
    ...(perRow > 0 && { targets: { ids, perRow } }),
    ...(all && { all }),
  });
  jobs.forEach((job, row) => {
    const target = (index: number) => result.targetLogits![row * perRow + index]! - result.logSumExp[row]!;
    job.use({ result, row, top, target });
  });
}

function nextToken(sequence: GenerateSequence, row: number): HeadJob {
  return { row, ...sequence.needs, targets: [], use: (outcome) => sequence.accept(outcome) };
}

function promptJobs(sequence: GenerateSequence, start: number) {
  const logprobs: number[] = [];
  const scoring = sequence.prompt.slice(1).map(
    (token, i): HeadJob => ({
      row: start + i,
      top: 1,
      all: false,
      targets: [token],
      use: ({ target }) => {
        logprobs[i] = target(0);
      },
    }),
  );
  return { scoring, finish: () => sequence.setPromptLogprobs(logprobs) };
}

function scoreJobs(sequence: ScoreSequence, start: number) {
  const wanted = new Map<number, number[]>();
  for (const { row, token } of sequence.tree.options.flat()) {
    const tokens = wanted.get(row) ?? [];
    if (!tokens.includes(token)) tokens.push(token);
    wanted.set(row, tokens);
  }
  const outcomes = new Map<string, { logprob: number; isTop: boolean }>();
  const scoring = Array.from(wanted, ([treeRow, targets]): HeadJob => {
    const use = ({ result, row, top, target }: RowOutcome) => {
      targets.forEach((token, i) => {
        outcomes.set(`${treeRow} ${token}`, { logprob: target(i), isTop: result.topIds[row * top] === token });
      });
    };
    return { row: start + treeRow, top: 1, all: false, targets, use };
  });
  const finish = () => sequence.accept((row, token) => outcomes.get(`${row} ${token}`)!);
  return { scoring, finish };
}
