/**
 * One request on its way through a run: as it lies in a shard, and as it comes back in a part.
 *
 * A shard holds requests of one task, so all its rows share one `Ask`.
 */

/** What is asked of every row of a shard. */
export type Ask =
  | {
      readonly kind: 'generate';
      readonly maxNewTokens: number;
      readonly stop: readonly string[];
      readonly temperature: number;
      readonly topK: number;
      readonly topP: number;
      /** Row r samples with a seed made of this and its row id. */
      readonly seed: number;
    }
  /** Log-likelihood of each option. */
  | { readonly kind: 'score' };

/** One request, as read from a shard. */
export interface PromptRow {
  /** Unique in the run and stable between runs: the task's name, a slash, and the source's id or row number. */
  readonly rowId: string;
  readonly task: string;
  /** The text as the model is given it: template, examples and chat template applied. */
  readonly prompt: string;
  readonly promptSha256: string;
  readonly promptTokens: number;
  /** Continuations to score; null where text is generated. */
  readonly options: readonly string[] | null;
  /** The right answer (a text, or the index of an option as decimal text); null where there is none to compare with. */
  readonly target: string | null;
  /** Source columns that the pipeline wants in the output. */
  readonly columns: Readonly<Record<string, unknown>>;
  /** Why this row cannot be asked; it is then answered with this error. */
  readonly error: string | null;
}

/** One answer, as written to a part. */
export interface AnswerRow {
  readonly rowId: string;
  readonly task: string;
  readonly promptSha256: string;
  readonly completion: string | null;
  readonly finishReason: 'stop' | 'length' | 'error';
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Sum over the completion's tokens; null for scored options and errors. */
  readonly logprob: number | null;
  readonly optionLogprobs: readonly number[] | null;
  readonly error: string | null;
  readonly columns: Readonly<Record<string, unknown>>;
}

/** One shard file, as the manifest lists it. Paths are relative to the run directory. */
export interface ShardReference {
  readonly index: number;
  readonly path: string;
  readonly rows: number;
  readonly sha256: string;
  readonly task: string;
  readonly ask: Ask;
  readonly promptTokens: number;
}

/** A metric of one task. `stderr` is null where it cannot be estimated (fewer than two rows). */
export interface Metric {
  readonly value: number;
  readonly stderr: number | null;
  readonly n: number;
}
export type Metrics = Readonly<Record<string, Readonly<Record<string, Metric>>>>;
