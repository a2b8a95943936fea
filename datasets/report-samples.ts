/**
 * The rows of a scored task as lm-eval logs them: one JSON object a line, in the order of the dataset.
 *
 * Shards come sorted by length, a sample file does not depend on how a run was sharded: lines go to a scratch file first
 * and are copied in order, so that only their places are in memory.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { explained, makeDirectory, openAtomic } from './files.js';
import type { Ask, PromptRow } from './rows.js';
import { choicesOf, type Sample, type ScoredTask } from './score.js';

export interface SampleFile {
  add(sample: Sample, ask: Ask): void;
  /** Writes the file. @returns lm-eval's `task_hashes` entry: one hash over all rows. */
  finish(): string;
  /** Removes the scratch file; call it in any case. */
  close(): void;
}

export function openSampleFile(path: string, task: ScoredTask): SampleFile {
  const scratchPath = `${path}.scratch`;
  const scratch = explained(scratchPath, () => {
    makeDirectory(dirname(path));
    return openSync(scratchPath, 'w+');
  });
  const lines: Line[] = [];
  let end = 0;
  let open = true;
  return {
    add(sample, ask) {
      const key = rowKey(sample.prompt);
      for (const [filter, { filter: name }] of sample.judgements.entries()) {
        const bytes = Buffer.from(JSON.stringify(sampleRow(sample, ask, task, name)));
        explained(scratchPath, () => writeSync(scratch, bytes, 0, bytes.length, end));
        lines.push({ filter, key, start: end, length: bytes.length });
        end += bytes.length;
      }
    },
    finish() {
      lines.sort((a, b) => a.filter - b.filter || compareRowKeys(a.key, b.key));
      const allNumbered = lines.every(({ key }) => typeof key === 'number');
      const hashes = createHash('sha256');
      const file = openAtomic(path);
      try {
        const rowsOfFilter = new Map<number, number>();
        for (const { filter, key, start, length } of lines) {
          const place = rowsOfFilter.get(filter) ?? 0;
          rowsOfFilter.set(filter, place + 1);
          const bytes = Buffer.alloc(length);
          readSync(scratch, bytes, 0, length, start);
          const row = JSON.parse(bytes.toString()) as SampleRow;
          hashes.update(row.doc_hash + row.prompt_hash + row.target_hash);
          file.write(Buffer.from(`${JSON.stringify({ doc_id: allNumbered ? key : place, ...row })}\n`));
        }
        file.commit();
      } finally {
        file.discard();
      }
      return hashes.digest('hex');
    },
    close() {
      if (open) closeSync(scratch);
      open = false;
      rmSync(scratchPath, { force: true });
    },
  };
}

/** The place of a row in its dataset: its number, or its id where ids are no numbers. */
export type RowKey = number | string;

export function rowKey({ rowId, task }: Pick<PromptRow, 'rowId' | 'task'>): RowKey {
  const id = rowId.startsWith(`${task}/`) ? rowId.slice(task.length + 1) : rowId;
  return /^(?:0|[1-9]\d{0,14})$/.test(id) ? Number(id) : id;
}

/** Numbers by size, then other ids by their characters. */
export function compareRowKeys(a: RowKey, b: RowKey): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === 'number' ? -1 : 1;
}

interface Line {
  readonly filter: number;
  readonly key: RowKey;
  readonly start: number;
  readonly length: number;
}

interface SampleRow {
  readonly doc_hash: string;
  readonly prompt_hash: string;
  readonly target_hash: string;
  readonly [key: string]: unknown;
}

/** lm-eval's keys in its order, then ours: `row_id` and `error`. Of scored options it also says whether each is the greedy one. */
function sampleRow({ prompt, answer, judgements }: Sample, ask: Ask, task: ScoredTask, filter: string): SampleRow {
  const { response, values } = judgements.find((judgement) => judgement.filter === filter)!;
  const logprobs = (answer.optionLogprobs ?? []).map(String);
  const continuations = prompt.options ?? [];
  const target = prompt.target ?? '';
  return {
    doc: documentOf(prompt, task),
    target,
    arguments: Object.fromEntries(
      ask.kind === 'generate'
        ? [['gen_args_0', { arg_0: prompt.prompt, arg_1: generationArguments(ask) }]]
        : continuations.map((option, index) => [`gen_args_${index}`, { arg_0: prompt.prompt, arg_1: option }]),
    ),
    resps: ask.kind === 'generate' ? [[answer.completion ?? '']] : logprobs.map((logprob) => [[logprob]]),
    filtered_resps: ask.kind === 'generate' ? [response ?? ''] : logprobs.map((logprob) => [logprob]),
    filter,
    metrics: Object.keys(values),
    doc_hash: sha256(JSON.stringify(documentOf(prompt, task), null, 2)),
    prompt_hash: sha256(prompt.prompt),
    target_hash: sha256(target),
    ...values,
    row_id: prompt.rowId,
    error: answer.error,
  };
}

/** What the run kept of the source's row; where it kept nothing, its options. */
function documentOf(prompt: PromptRow, { optionPrefix }: ScoredTask): Readonly<Record<string, unknown>> {
  if (Object.keys(prompt.columns).length > 0 || prompt.options === null) return prompt.columns;
  return { choices: choicesOf(prompt, optionPrefix) };
}

function generationArguments(ask: Extract<Ask, { kind: 'generate' }>): Readonly<Record<string, unknown>> {
  const { stop, maxNewTokens, temperature, topK, topP } = ask;
  const sampling = temperature > 0 ? { top_k: topK, top_p: topP } : {};
  return { until: stop, max_gen_toks: maxNewTokens, do_sample: temperature > 0, temperature, ...sampling };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
