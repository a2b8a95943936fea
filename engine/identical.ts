/** Requests whose answers cannot differ, so that one is computed for all of them. */
import type { EngineRequest, EngineResult } from './requests.js';

export interface DistinctRequests {
  /** The first of each kind, in their order. */
  readonly requests: readonly EngineRequest[];
  /** How many the answer of each serves. */
  readonly copies: readonly number[];
  /** Answers of all, in their order, from those of the distinct ones. */
  answerAll(answers: readonly EngineResult[]): EngineResult[];
}

export function distinctRequests(all: readonly EngineRequest[]): DistinctRequests {
  const places = new Map<string, number>();
  const requests: EngineRequest[] = [];
  const copies: number[] = [];
  const answeredBy = all.map((request) => {
    const key = everythingBut(request);
    const known = places.get(key);
    if (known !== undefined) {
      copies[known]!++;
      return known;
    }
    places.set(key, requests.length);
    copies.push(1);
    return requests.push(request) - 1;
  });
  return {
    requests,
    copies,
    answerAll: (answers) => all.map(({ id }, i) => ({ ...answers[answeredBy[i]!]!, id })),
  };
}

/** Where nothing is computed for another. */
export function eachAlone(requests: readonly EngineRequest[]): DistinctRequests {
  return { requests, copies: requests.map(() => 1), answerAll: (answers) => [...answers] };
}

/** All that decides the answer. Whoever takes the most probable token never draws. */
function everythingBut({ id: _, ...request }: EngineRequest): string {
  if (request.kind === 'score' || request.sampling.temperature > 0) return JSON.stringify(request);
  return JSON.stringify({ ...request, sampling: 'greedy' });
}
