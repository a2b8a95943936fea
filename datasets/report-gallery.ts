/**
 * The rows of a task that a report shows: the first of the dataset, and the first with an error.
 *
 * Bounded: however long a run is, little more than what is shown is in memory.
 */
import { compareRowKeys, rowKey } from './report-samples.js';
import type { Sample } from './score.js';

/** A report with more rows opens slowly in a browser; all of them are in the parts. */
export const shownRows = 200;
/** Rows with errors beyond the first `shownRows`: they are few and a person looks for them. */
const shownErrors = 20;

export interface Gallery {
  add(sample: Sample): void;
  /** In the order of the dataset. */
  samples(): readonly Sample[];
}

export function openGallery(): Gallery {
  const first = smallest(shownRows);
  const failed = smallest(shownRows + shownErrors);
  return {
    add(sample) {
      first.add(sample);
      if (sample.answer.error !== null) failed.add(sample);
    },
    samples() {
      const shown = first.samples();
      const others = failed.samples().filter((sample) => !shown.includes(sample));
      return [...shown, ...others.slice(0, shownErrors)];
    },
  };
}

/** The `limit` samples that come first in the dataset. */
function smallest(limit: number): Gallery {
  let kept: Sample[] = [];
  const prune = () => {
    kept = kept.sort((a, b) => compareRowKeys(rowKey(a.prompt), rowKey(b.prompt))).slice(0, limit);
  };
  return {
    add(sample) {
      kept.push(sample);
      if (kept.length >= 2 * limit) prune();
    },
    samples() {
      prune();
      return kept;
    },
  };
}
