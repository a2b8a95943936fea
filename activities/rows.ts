/** Rows of a shard as requests of the engine, and its results as rows of a part. */
import { createHash } from 'node:crypto';
import type { AnswerRow, Ask, PromptRow } from '../datasets/rows.js';
import type { EngineRequest, EngineResult } from '../engine/requests.js';

export function requestOf(row: PromptRow, ask: Ask): EngineRequest {
  if (ask.kind === 'score') return { kind: 'score', id: row.rowId, context: row.prompt, options: row.options ?? [] };
  const { maxNewTokens, stop, temperature, topK, topP, seed } = ask;
  const sampling = { temperature, topK, topP, seed: rowSeed(seed, row.rowId) };
  return { kind: 'generate', id: row.rowId, prompt: row.prompt, maxNewTokens, stop, sampling };
}

/** Answers in the order of the rows, whether each was asked or had an error from the start. */
export function answersOf(rows: readonly PromptRow[], results: readonly EngineResult[]): AnswerRow[] {
  const byId = new Map(results.map((result) => [result.id, result]));
  return rows.map((row) => {
    if (row.error !== null) return failed(row, row.error);
    const result = byId.get(row.rowId);
    return result ? answerOf(row, result) : failed(row, 'the engine gave no answer');
  });
}

/** Of a row: equal in every run and wherever the row lies; 32 bits. */
export function rowSeed(seed: number, rowId: string): number {
  return createHash('sha256').update(`${seed}/${rowId}`).digest().readUInt32LE(0);
}

function answerOf(row: PromptRow, result: EngineResult): AnswerRow {
  if (result.error !== undefined) return { ...failed(row, result.error), promptTokens: result.promptTokens };
  const common = {
    rowId: row.rowId,
    task: row.task,
    promptSha256: row.promptSha256,
    promptTokens: result.promptTokens,
    error: null,
    columns: row.columns,
  };
  if (result.kind === 'score') {
    return {
      ...common,
      completion: null,
      finishReason: 'stop',
      completionTokens: 0,
      logprob: null,
      optionLogprobs: result.options.map((option) => option.logprob),
    };
  }
  return {
    ...common,
    completion: result.text,
    finishReason: result.finishReason,
    completionTokens: result.tokens.length,
    logprob: result.logprobs.reduce((sum, logprob) => sum + logprob, 0),
    optionLogprobs: null,
  };
}

function failed(row: PromptRow, error: string): AnswerRow {
  return {
    rowId: row.rowId,
    task: row.task,
    promptSha256: row.promptSha256,
    completion: null,
    finishReason: 'error',
    promptTokens: row.promptTokens,
    completionTokens: 0,
    logprob: null,
    optionLogprobs: null,
    error,
    columns: row.columns,
  };
}
