/** The paper's own search in the paper's own model: sizes of a block enumerated, a linear program for each (FlexGen §4.3). */
import type { Solve } from './linear-program.js';
import { type PaperBlock, type PaperCase, paperProblem, paperThroughput } from './paper-model.js';
import { fastestPlacement, type PlacedFractions, solvePlacement } from './placement-program.js';

export interface PaperChoice extends PaperBlock {
  readonly fractions: PlacedFractions;
  /** Generated tokens a second. */
  readonly throughput: number;
}

/** Appendix A.3: GPU batches are multiples of 4, and there are less than 20 of them; small models also take 1 and 2. */
const GPU_BATCH_SIZES = [1, 2, ...Array.from({ length: 40 }, (_, i) => 4 * (i + 1))];
const MOST_GPU_BATCHES = 19;

/** @returns the fastest placement of the fastest block, or undefined where not even one sequence fits */
export function searchPaper(study: PaperCase, solve: Solve): PaperChoice | undefined {
  let best: (PaperBlock & { throughput: number }) | undefined;
  for (const gpuBatchSize of GPU_BATCH_SIZES) {
    for (let numGpuBatches = 1; numGpuBatches <= MOST_GPU_BATCHES; numGpuBatches++) {
      const block = { gpuBatchSize, numGpuBatches };
      const seconds = fastestPlacement(paperProblem(study, block), solve)?.seconds;
      // What does not hold so many GPU batches does not hold more.
      if (seconds === undefined) break;
      const throughput = paperThroughput(study, block, seconds);
      if (!best || throughput > best.throughput) best = { ...block, throughput };
    }
  }
  if (!best) return undefined;
  const { fractions } = solvePlacement(paperProblem(study, best), solve)!;
  return { ...best, fractions };
}
