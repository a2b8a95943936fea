/** Logits over parts of the vocabulary, put together to those over the whole. */
import type { HeadResult } from '../backends/backend.js';
import type { LogitsRequest } from './compute.js';

/** What a head made of the vocabulary's rows from `firstRow` on. */
export interface HeadPart {
  readonly firstRow: number;
  readonly result: HeadResult;
}

/** @param parts in the order of the vocabulary, which they cover */
export function mergeHeads(parts: readonly HeadPart[], request: LogitsRequest, vocabSize: number): HeadResult {
  if (parts.length === 1) return parts[0]!.result;
  const rows = parts[0]!.result.logSumExp.length;
  return {
    logSumExp: Float32Array.from({ length: rows }, (_, row) => logSumExp(parts, row)),
    ...mergeTops(parts, rows, request.top),
    ...(request.targets && { targetLogits: pickTargets(parts, request.targets.ids, vocabSize) }),
    ...(request.all && { logits: joinLogits(parts, rows, vocabSize) }),
  };
}

function logSumExp(parts: readonly HeadPart[], row: number): number {
  const sums = parts.map(({ result }) => result.logSumExp[row]!);
  const max = Math.max(...sums);
  return max + Math.log(sums.reduce((total, sum) => total + Math.exp(sum - max), 0));
}

/** Largest first; among equals the lower id, which lies in the earlier part. */
function mergeTops(parts: readonly HeadPart[], rows: number, top: number) {
  const topIds = new Int32Array(rows * top);
  const topLogits = new Float32Array(rows * top);
  for (let row = 0; row < rows; row++) {
    const candidates = parts.flatMap(({ firstRow, result }) => {
      const width = result.topIds.length / rows;
      const ids = result.topIds.subarray(row * width, (row + 1) * width);
      return Array.from(ids, (id, i) => ({ id: id + firstRow, logit: result.topLogits[row * width + i]! }));
    });
    candidates.sort((a, b) => b.logit - a.logit || a.id - b.id);
    for (let i = 0; i < top; i++) {
      topIds[row * top + i] = candidates[i]!.id;
      topLogits[row * top + i] = candidates[i]!.logit;
    }
  }
  return { topIds, topLogits };
}

function pickTargets(parts: readonly HeadPart[], ids: Int32Array, vocabSize: number): Float32Array {
  return Float32Array.from(ids, (id, i) => {
    const part = parts.findIndex(
      ({ firstRow }, next) => id >= firstRow && id < (parts[next + 1]?.firstRow ?? vocabSize),
    );
    return parts[part]!.result.targetLogits![i]!;
  });
}

function joinLogits(parts: readonly HeadPart[], rows: number, vocabSize: number): Float32Array {
  const logits = new Float32Array(rows * vocabSize);
  for (const { firstRow, result } of parts) {
    const width = result.logits!.length / rows;
    for (let row = 0; row < rows; row++) {
      logits.set(result.logits!.subarray(row * width, (row + 1) * width), row * vocabSize + firstRow);
    }
  }
  return logits;
}
