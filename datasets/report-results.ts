/**
 * `results.json`: the scores with the keys that readers of lm-eval's results know, and what Zigzag adds under `zigzag`.
 *
 * Source: lm-eval 0.4.13, `result_schema.py`.
 */
import { generationThroughput, type ReportFacts, tasksOf } from './report-facts.js';
import type { TaskScores } from './score.js';
import type { MetricSpec, Task } from './tasks.js';

/** @param taskHashes lm-eval's hash over the rows of each task. */
export function resultsJson(facts: ReportFacts, taskHashes: Readonly<Record<string, string>>): string {
  const { pipeline, totals } = facts;
  const tasks = tasksOf(facts);
  const scored = facts.scores.filter(({ scores }) => scores.length > 0);
  const results = {
    results: Object.fromEntries(scored.map((scores) => [scores.task, taskResults(scores)])),
    group_subtasks: Object.fromEntries(scored.map(({ task }) => [task, []])),
    configs: byTask(tasks, taskConfig),
    versions: byTask(tasks, ({ version }) => numberWhere(version)),
    'n-shot': byTask(tasks, ({ fewshot }) => fewshot.count),
    higher_is_better: byTask(tasks, ({ metrics }) =>
      Object.fromEntries(metrics.map(({ metric, higherIsBetter }) => [metric, higherIsBetter])),
    ),
    'n-samples': Object.fromEntries(scored.map(({ task, rows }) => [task, { original: rows, effective: rows }])),
    config: {
      model: 'zigzag',
      model_args: { pretrained: pipeline.model, ...pipeline.engine },
      device: pipeline.engine.device,
      limit: pipeline.limit,
      bootstrap_iters: 0,
      gen_kwargs: null,
      random_seed: pipeline.seed,
      fewshot_seed: pipeline.seed,
    },
    date: facts.startedAt / 1000,
    task_hashes: taskHashes,
    model_source: 'zigzag',
    model_name: pipeline.model,
    model_name_sanitized: pipeline.model.replace(/[^\w.-]+/g, '__'),
    ...(pipeline.work.kind === 'tasks' ? { fewshot_as_multiturn: pipeline.work.fewshotAsMultiturn } : {}),
    total_evaluation_time_seconds: String(totals.seconds),
    zigzag: {
      run: pipeline.name,
      fingerprint: facts.fingerprint,
      engineVersion: facts.engineVersion,
      model: facts.modelFacts,
      rows: totals.rows,
      errors: totals.errors,
      tokens: { prompt: totals.promptTokens, generated: totals.generatedTokens },
      seconds: totals.seconds,
      generationThroughput: generationThroughput(totals),
      reusedShards: totals.reusedShards,
      recovered: totals.recovered ?? null,
      notes: totals.notes ?? [],
      steps: facts.steps,
      tasks: Object.fromEntries(
        facts.scores.map(({ task, rows, errors, promptTokens, generatedTokens, chance }) => [
          task,
          { rows, errors, tokens: { prompt: promptTokens, generated: generatedTokens }, chance },
        ]),
      ),
      outputs: facts.parts,
      samples: facts.sampleFiles,
    },
  };
  return `${JSON.stringify(results, null, 2)}\n`;
}

function byTask<T>(tasks: readonly Task[], value: (task: Task) => T): Record<string, T> {
  return Object.fromEntries(tasks.map((task) => [task.name, value(task)]));
}

function taskResults({ task, rows, scores }: TaskScores): Record<string, unknown> {
  return {
    name: task,
    alias: task,
    sample_len: rows,
    ...Object.fromEntries(
      scores.flatMap(({ metric, filter, value, stderr }) => [
        [`${metric},${filter}`, value],
        [`${metric}_stderr,${filter}`, stderr ?? 'N/A'],
      ]),
    ),
  };
}

/** The task as its YAML would say it, for readers that look at `configs`. */
function taskConfig(task: Task): Record<string, unknown> {
  const { wording, generation, fewshot } = task;
  return {
    task: task.name,
    dataset_kwargs: { data_files: task.data.files },
    output_type: task.outputType,
    description: task.description?.text ?? '',
    doc_to_text: wording.text.text,
    doc_to_target: typeof wording.target === 'number' ? wording.target : wording.target.text,
    ...(wording.choice === null
      ? {}
      : { doc_to_choice: 'text' in wording.choice ? wording.choice.text : wording.choice }),
    target_delimiter: wording.targetDelimiter,
    fewshot_delimiter: wording.fewshotDelimiter,
    num_fewshot: fewshot.count,
    metric_list: task.metrics.map(metricConfig),
    filter_list: task.filters.map(({ name, filters }) => ({
      name,
      filter: filters.map((spec) =>
        spec.filter === 'regex'
          ? { function: 'regex', regex_pattern: spec.pattern, group_select: spec.group, fallback: spec.fallback }
          : { function: spec.filter },
      ),
    })),
    ...(task.outputType === 'generate_until'
      ? {
          generation_kwargs: {
            until: generation.stop,
            max_gen_toks: generation.maxNewTokens,
            do_sample: generation.temperature > 0,
            temperature: generation.temperature,
          },
        }
      : {}),
    repeats: 1,
    metadata: { version: numberWhere(task.version) },
  };
}

function metricConfig(spec: MetricSpec): Record<string, unknown> {
  const shared = { metric: spec.metric, aggregation: 'mean', higher_is_better: spec.higherIsBetter };
  if (spec.metric !== 'exact_match') return shared;
  return {
    ...shared,
    ignore_case: spec.ignoreCase,
    ignore_punctuation: spec.ignorePunctuation,
    ignore_numbers: spec.ignoreNumbers,
    ...(spec.regexesToIgnore.length > 0 ? { regexes_to_ignore: spec.regexesToIgnore } : {}),
  };
}

/** Versions are written as numbers where they are, as YAML has them. */
function numberWhere(version: string | null): string | number | null {
  return version !== null && /^\d+(\.\d+)?$/.test(version) ? Number(version) : version;
}
