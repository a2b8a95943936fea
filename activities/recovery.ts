/** What of a shard's work was taken up again, in words and in numbers. */
import type { Recovered } from '../datasets/report-facts.js';
import { count } from '../datasets/report-format.js';
import type { CheckpointStatus, Recovery } from '../engine/checkpoint.js';

/** Notes that travel with a shard's outcome. */
const MAX_NOTES = 3;

/** @returns undefined where nothing was there to go on with. */
export function recoveredOf({ recovery }: CheckpointStatus): Recovered | undefined {
  if (!recovery || recovery.finished + recovery.resumed === 0) return undefined;
  const { finished, resumed, tokensKept, promptTokensAgain, generatedTokensAgain } = recovery;
  const { sweepsAgain, periodSweeps, positionsRead, positionsRebuilt } = recovery;
  return {
    shards: 1,
    answers: finished,
    sequences: resumed,
    tokensKept,
    promptTokensAgain,
    generatedTokensAgain,
    ...{ sweepsAgain, periodSweeps, positionsRead, positionsRebuilt },
  };
}

/** What is worth a line in the log, each once: what was taken up, and what went wrong. */
export function newsOf(now: CheckpointStatus | undefined, before: CheckpointStatus | undefined): readonly string[] {
  if (!now) return [];
  const told = before ? notesOf(before) : [];
  return [
    ...(now.recovery && !before ? [recoveryLine(now.recovery)] : []),
    ...notesOf(now).filter((note) => !told.includes(note)),
  ];
}

/** What went wrong with checkpoints, which the run outlived. */
export function notesOf({ recovery, problem }: CheckpointStatus): readonly string[] {
  return [...(recovery?.problems ?? []), ...(problem === undefined ? [] : [problem])].slice(0, MAX_NOTES);
}

/** "resumed 61 of 64 sequences, 1,204 tokens kept, 38 computed again" */
function recoveryLine(recovery: Recovery): string {
  const { finished, resumed, total, tokensKept, promptTokensAgain, generatedTokensAgain } = recovery;
  const { sweepsAgain, periodSweeps } = recovery;
  const again = promptTokensAgain + generatedTokensAgain;
  if (finished + resumed === 0) return `nothing was kept of an earlier attempt, ${count(again)} tokens computed again`;
  return (
    `resumed ${count(finished + resumed)} of ${count(total)} sequences (${count(finished)} of them finished), ` +
    `${count(tokensKept)} tokens kept, ${count(again)} computed again ` +
    `(${sweepsAgain} sweeps; a checkpoint's period is at most ${periodSweeps})`
  );
}
