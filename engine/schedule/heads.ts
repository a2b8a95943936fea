/**
 * The end of a sweep: which rows need logits, what of them, and who is told.
 *
 * Logits are computed only for the rows whose next token matters: the last row of each sequence, and those that score an
 * option or a prompt token.
 */
import type { HeadResult } from '../backends/backend.js';
import type { ModelConfig } from '../model/config.js';
import type { GenerateSequence, ScoreSequence, Sequence } from '../sequence.js';
import type { LayerCompute, LogitsRequest } from './compute.js';
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

/** Rows of a sweep's cell whose sequences await logits. */
export interface HeadCell {
  readonly rows: SweepRows;
  readonly live: readonly GenerateSequence[];
  /** First row of the cell in the sweep's hidden states. */
  readonly firstRow: number;
}

/** Computes what the sweep's sequences need and hands it to them. */
export async function runHeads(
  compute: LayerCompute,
  config: ModelConfig,
  cells: readonly HeadCell[],
  hidden: Float32Array,
): Promise<void> {
  const jobs: HeadJob[] = [];
  const finishers: (() => void)[] = [];
  for (const { rows, live, firstRow } of cells) {
    jobs.push(...live.map((sequence, row) => nextToken(sequence, firstRow + row)));
    for (const { sequence, shared, start, end } of rows.newcomers) {
      if (sequence.kind === 'generate') jobs.push(nextToken(sequence, firstRow + end - 1));
      const scored = scoringOf(sequence, firstRow + start - shared.length);
      jobs.push(...scored.jobs);
      finishers.push(scored.finish);
    }
  }
  const outcome = await compute.logits(jobs.length > 0 ? requestOf(jobs, config, hidden) : undefined);
  if (outcome) distribute(jobs, outcome);
  for (const finish of finishers) finish();
}

function requestOf(jobs: readonly HeadJob[], config: ModelConfig, hidden: Float32Array): LogitsRequest {
  const { hiddenSize, vocabSize } = config;
  const gathered = new Float32Array(jobs.length * hiddenSize);
  jobs.forEach(({ row }, i) => {
    gathered.set(hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize), i * hiddenSize);
  });
  const perRow = Math.max(...jobs.map(({ targets }) => targets.length));
  const ids = new Int32Array(jobs.length * perRow);
  jobs.forEach(({ targets }, i) => {
    ids.set(targets, i * perRow);
  });
  return {
    hidden: gathered,
    top: Math.min(vocabSize, Math.max(...jobs.map(({ top }) => top))),
    ...(perRow > 0 && { targets: { ids, perRow } }),
    ...(jobs.some(({ all }) => all) && { all: true }),
  };
}

function distribute(jobs: readonly HeadJob[], result: HeadResult): void {
  const [top, perRow] = [result.topIds, result.targetLogits ?? []].map(({ length }) => length / jobs.length);
  jobs.forEach((job, row) => {
    const target = (index: number) => result.targetLogits![row * perRow! + index]! - result.logSumExp[row]!;
    job.use({ result, row, top: top!, target });
  });
}

function nextToken(sequence: GenerateSequence, row: number): HeadJob {
  return { row, ...sequence.needs, targets: [], use: (outcome) => sequence.accept(outcome) };
}

/**
 * Jobs of a newcomer's own tokens: its options, or its prompt where that is asked for.
 * @param start where the row of its first position is, or would be
 */
function scoringOf(sequence: Sequence, start: number): { jobs: HeadJob[]; finish: () => void } {
  if (sequence.kind === 'score') return scoreJobs(sequence, start);
  // One that comes back knows them already.
  if (sequence.request.promptLogprobs && sequence.tokens.length === 0) return promptJobs(sequence, start);
  return { jobs: [], finish: () => {} };
}

function promptJobs(sequence: GenerateSequence, start: number) {
  const logprobs: number[] = [];
  const jobs = sequence.prompt.slice(1).map(
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
  return { jobs, finish: () => sequence.setPromptLogprobs(logprobs) };
}

function scoreJobs(sequence: ScoreSequence, start: number) {
  const wanted = new Map<number, number[]>();
  for (const { row, token } of sequence.tree.options.flat()) {
    const tokens = wanted.get(row) ?? [];
    if (!tokens.includes(token)) tokens.push(token);
    wanted.set(row, tokens);
  }
  const outcomes = new Map<string, { logprob: number; isTop: boolean }>();
  const jobs = Array.from(wanted, ([treeRow, targets]): HeadJob => {
    const use = ({ result, row, top, target }: RowOutcome) => {
      targets.forEach((token, i) => {
        outcomes.set(`${treeRow} ${token}`, { logprob: target(i), isTop: result.topIds[row * top] === token });
      });
    };
    return { row: start + treeRow, top: 1, all: false, targets, use };
  });
  const finish = () => sequence.accept((row, token) => outcomes.get(`${row} ${token}`)!);
  return { jobs, finish };
}
