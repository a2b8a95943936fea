/**
 * Beginnings that sequences of a run have in common, nested: an instruction, on it examples, on them a question that is
 * asked in several ways. A radix tree over their first tokens, whose nodes count who still waits for them.
 */
import type { Sequence } from '../sequence.js';
import { chainOf, commonLength, LEAST_SHARED, mostShared } from './shared-prefix.js';

/** Positions [start, end) that several sequences have alike, behind those of its parent. */
export interface PrefixNode {
  readonly parent: PrefixNode | undefined;
  readonly start: number;
  readonly end: number;
  /** Sequences that could take rows of it and have not entered. */
  waiting: number;
}

export class PrefixTree {
  /** Absent: sequences that have no beginning in common with another. */
  private readonly deepest = new Map<Sequence, PrefixNode>();

  constructor(sequences: readonly Sequence[]) {
    const chains = sequences.map((sequence) => ({ sequence, tokens: chainOf(sequence) }));
    chains.sort((a, b) => compare(a.tokens, b.tokens));
    const nodeOf = distinct(forks(chains.map(({ tokens }) => tokens)));
    chains.forEach(({ sequence }, i) => {
      const node = nodeOf(i);
      if (node) this.deepest.set(sequence, node);
    });
    for (const sequence of this.deepest.keys()) this.count(sequence, 1);
  }

  /** From the first positions on. */
  path(sequence: Sequence): readonly PrefixNode[] {
    const path: PrefixNode[] = [];
    for (let node = this.deepest.get(sequence); node; node = node.parent) path.unshift(node);
    return path;
  }

  /** It waits no longer. */
  enter(sequence: Sequence): void {
    this.count(sequence, -1);
  }

  private count(sequence: Sequence, by: number): void {
    const most = mostShared(sequence);
    for (const node of this.path(sequence)) if (most >= node.start + LEAST_SHARED) node.waiting += by;
  }
}

/** Where chains part, and the chain before which each lies: `depth` tokens are common to all below. */
interface Fork {
  parent: Fork | undefined;
  readonly depth: number;
}

/** @param sorted chains. @returns for each the deepest fork above it, undefined where that is the root */
function forks(sorted: readonly ArrayLike<number>[]): (Fork | undefined)[] {
  const common = sorted.slice(1).map((tokens, i) => commonLength(sorted[i]!, tokens));
  const open: Fork[] = [];
  return sorted.map((_, i) => {
    const [before, after] = [common[i - 1] ?? 0, common[i] ?? 0];
    let closed: Fork | undefined;
    while ((open.at(-1)?.depth ?? 0) > before) closed = open.pop();
    const push = (depth: number): Fork => {
      const fork = { parent: open.at(-1), depth };
      open.push(fork);
      return fork;
    };
    // What was closed turns out to have more chains beside it.
    if (closed && (open.at(-1)?.depth ?? 0) < before) closed.parent = push(before);
    if ((open.at(-1)?.depth ?? 0) < after) push(after);
    return open.at(-1);
  });
}

/** Nodes of the forks that lie far enough behind one another to be worth keeping apart. */
function distinct(forks: readonly (Fork | undefined)[]): (index: number) => PrefixNode | undefined {
  const nodes = new Map<Fork, PrefixNode | undefined>();
  const nodeOf = (fork: Fork): PrefixNode | undefined => {
    const above: Fork[] = [];
    let known: PrefixNode | undefined;
    for (let at: Fork | undefined = fork; at; at = at.parent) {
      if (nodes.has(at)) {
        known = nodes.get(at);
        break;
      }
      above.unshift(at);
    }
    for (const at of above) {
      const start = known?.end ?? 0;
      if (at.depth - start >= LEAST_SHARED) known = { parent: known, start, end: at.depth, waiting: 0 };
      nodes.set(at, known);
    }
    return known;
  };
  return (index) => forks[index] && nodeOf(forks[index]);
}

function compare(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const length = commonLength(a, b);
  return length < Math.min(a.length, b.length) ? a[length]! - b[length]! : a.length - b.length;
}
