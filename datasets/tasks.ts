/**
 * Task files: what to ask of a dataset and how to score the answers, in the YAML form of lm-evaluation-harness.
 *
 * Source: lm-eval 0.4.13, `config/task.py` and `api/task.py`. Taken over: local data, templates, few-shot examples,
 * generate_until and multiple_choice. What is not is refused by name. Unlike lm-eval, data files are found beside the task
 * file, and a row is never its own example.
 */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { z } from 'zod';
import { InputError } from './errors.js';
import type { Ask } from './rows.js';
import { checkSettings } from './settings.js';
import { type Format, type SourceSpec, sourceFiles } from './source.js';
import { nearest } from './suggest.js';
import {
  type FilterPipeline,
  filterPipelines,
  type MetricSpec,
  metricSpecs,
  type OutputType,
} from './tasks-metrics.js';
import { type choices, fewshotConfigSchema, refusedKeys, taskSchema } from './tasks-schema.js';
import { type KeyPath, readYaml, type YamlFile } from './yaml.js';

export type { FilterPipeline, FilterSpec, MetricSpec, OutputType } from './tasks-metrics.js';

/** A task with everything decided: plain data. */
export interface Task {
  readonly name: string;
  /** Of the task file. */
  readonly path: string;
  readonly version: string | null;
  readonly outputType: OutputType;
  /** The rows that are asked. */
  readonly data: SourceSpec;
  readonly fewshot: Fewshot;
  readonly wording: Wording;
  /** Said once, before the examples; null says nothing. */
  readonly description: Field | null;
  readonly generation: Generation;
  readonly metrics: readonly MetricSpec[];
  readonly filters: readonly FilterPipeline[];
}

/** How a row becomes a question, its options and its answer. */
export interface Wording {
  readonly text: Field;
  readonly target: Field | number;
  /** null where there are no options. */
  readonly choice: Field | readonly string[] | null;
  /** Between a question and its answer. */
  readonly targetDelimiter: string;
  /** After an example. */
  readonly fewshotDelimiter: string;
}

/** The name of a column, or a template over the columns; `where` (file, line and key) is for messages. */
export interface Field {
  readonly text: string;
  readonly where: string;
}

export interface Fewshot {
  readonly count: number;
  /** default draws for each row as lm-eval does, from a state seeded once a task; first_n takes the first. */
  readonly sampler: 'default' | 'first_n';
  readonly examples: SourceSpec | readonly Readonly<Record<string, unknown>>[];
  /** Rows of the examples to choose from; null for all. */
  readonly indices: readonly number[] | null;
  /** Whether the examples are the rows asked, so that a row must be kept from being its own example. */
  readonly fromAskedRows: boolean;
  readonly wording: Wording;
}

/** What is asked of a generation, but for its seed. */
export type Generation = Omit<Extract<Ask, { kind: 'generate' }>, 'kind' | 'seed'>;

type Settings = z.output<typeof taskSchema>;

/**
 * The file of a task: a path that ends in `.yaml`, or a name found on the search path.
 *
 * @throws InputError naming the nearest known task.
 */
export function findTask(
  name: string,
  from: { directory: string; searchPath: readonly string[]; where: string },
): string {
  const isPath = /\.ya?ml$/.test(name);
  const candidates = isPath
    ? [resolve(from.directory, name)]
    : from.searchPath.map((directory) => join(directory, `${name}.yaml`));
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path !== undefined) return path;
  if (isPath) throw new InputError(`${from.where}: tasks: there is no file ${candidates[0]}; correct the path`);
  const known = from.searchPath.flatMap(taskNames);
  const near = nearest(name, known);
  const advice = near === undefined ? `known tasks: ${known.join(', ') || 'none'}` : `did you mean "${near}"?`;
  throw new InputError(`${from.where}: tasks: no task "${name}" in ${from.searchPath.join(' or ')}; ${advice}`);
}

/** Names of the tasks in a directory, sorted; none where there is no such directory. */
export function taskNames(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((name) => name.endsWith('.yaml'))
    .map((name) => name.slice(0, -'.yaml'.length))
    .sort();
}

/**
 * @param numFewshot overrides the file's own.
 * @throws InputError naming the file, the line and the key, what was found and what to change.
 */
export function loadTask(path: string, numFewshot?: number): Task {
  const file = readYaml(path);
  refuseUnsupported(file);
  const settings = checkSettings(taskSchema, file.value, file.whereIs);
  const check = <Schema extends z.ZodType>(schema: Schema, value: unknown, keys: KeyPath) =>
    checkSettings(schema, value, (inner) => file.whereIs([...keys, ...inner]));
  const wording = taskWording(settings, file);
  if (settings.output_type === 'multiple_choice' && wording.choice === null) {
    throw new InputError(`${file.whereIs(['output_type'])}: output_type: multiple_choice needs doc_to_choice`);
  }
  const splits = dataSplits(settings, file);
  const askedKey = settings.test_split == null ? 'validation_split' : 'test_split';
  const asked = settings[askedKey];
  if (asked == null)
    throw new InputError(`${file.whereIs([])}: needs test_split or validation_split: which rows to ask`);
  return {
    name: settings.task,
    path: resolve(path),
    version: settings.metadata?.version == null ? null : String(settings.metadata.version),
    outputType: settings.output_type,
    data: splits.get(asked, [askedKey]),
    fewshot: fewshotOf({ settings, file, wording, splits, asked, count: numFewshot ?? settings.num_fewshot ?? 0 }),
    wording,
    description: settings.description === '' ? null : fieldAt(file, ['description'], settings.description),
    generation: generationOf(settings, file),
    metrics: metricSpecs(settings.metric_list, settings.output_type, file.whereIs, check),
    filters: filterPipelines(settings.filter_list, file.whereIs, check),
  };
}

function refuseUnsupported(file: YamlFile): void {
  const { value } = file;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InputError(
      `${file.path}:1: a task is made of keys such as "task" and "doc_to_text"; see pipelines/tasks`,
    );
  }
  for (const [key, advice] of Object.entries(refusedKeys)) {
    if (key in value) throw new InputError(`${file.whereIs([key])}: ${key}: not supported: ${advice}`);
  }
  const dataset = 'dataset_path' in value ? value.dataset_path : undefined;
  if (typeof dataset === 'string' && !taskSchema.shape.dataset_path.safeParse(dataset).success) {
    throw new InputError(
      `${file.whereIs(['dataset_path'])}: dataset_path: found "${dataset}"; data is read from local files only: ` +
        'write json, csv, parquet or arrow, and dataset_kwargs: { data_files: ... }',
    );
  }
}

function fieldAt(file: YamlFile, keys: KeyPath, text: string): Field {
  return { text, where: `${file.whereIs(keys)}: ${keys.at(-1)}` };
}

function taskWording(settings: Settings, file: YamlFile): Wording {
  return {
    text: fieldAt(file, ['doc_to_text'], settings.doc_to_text),
    target: targetOf(file, ['doc_to_target'], settings.doc_to_target),
    choice: settings.doc_to_choice == null ? null : choiceOf(file, ['doc_to_choice'], settings.doc_to_choice),
    targetDelimiter: settings.target_delimiter,
    fewshotDelimiter: settings.fewshot_delimiter,
  };
}

function targetOf(file: YamlFile, keys: KeyPath, target: string | number): Field | number {
  return typeof target === 'number' ? target : fieldAt(file, keys, target);
}

function choiceOf(file: YamlFile, keys: KeyPath, choice: z.output<typeof choices>): Field | readonly string[] {
  if (typeof choice === 'string') return fieldAt(file, keys, choice);
  return (Array.isArray(choice) ? choice : Object.values(choice)).map(String);
}

interface Splits {
  get(name: string, keys: KeyPath): SourceSpec;
}

/** A plain list of files is the split `train`, as in lm-eval. */
function dataSplits(settings: Settings, file: YamlFile): Splits {
  const { data_files: files, field: inside, delimiter, sep } = settings.dataset_kwargs;
  const byName = typeof files === 'string' || Array.isArray(files) ? { train: files } : files;
  const separator = delimiter ?? sep;
  return {
    get(name, keys) {
      const entry = byName[name];
      if (entry === undefined) {
        throw new InputError(
          `${file.whereIs(keys)}: ${keys.at(-1)}: no split "${name}" in data_files; there is ${Object.keys(byName).join(', ')}`,
        );
      }
      const where = `${file.whereIs(['dataset_kwargs', 'data_files', name])}: data_files`;
      const paths = sourceFiles(typeof entry === 'string' ? [entry] : entry, dirname(resolve(file.path)), where);
      return {
        files: paths,
        format: formatOf(settings.dataset_path, paths),
        ...(inside === undefined ? {} : { field: inside }),
        ...(separator === undefined ? {} : { delimiter: separator }),
      };
    },
  };
}

/** lm-eval's `json` is lines or an array, and its `csv` is told by the name to be separated by tabs. */
function formatOf(datasetPath: Settings['dataset_path'], paths: readonly string[]): Format {
  if (datasetPath === 'csv' && paths.every((path) => /\.tsv(\.gz)?$/.test(path))) return 'tsv';
  return datasetPath;
}

interface FewshotParts {
  readonly settings: Settings;
  readonly file: YamlFile;
  readonly wording: Wording;
  readonly splits: Splits;
  readonly asked: string;
  readonly count: number;
}

function fewshotOf({ settings, file, wording, splits, asked, count }: FewshotParts): Fewshot {
  const config = settings.fewshot_config ?? fewshotConfigSchema.parse({});
  const key = (name: string) => ['fewshot_config', name];
  const choice = config.doc_to_choice;
  const shared = {
    count,
    sampler: config.sampler,
    indices: config.fewshot_indices ?? null,
    wording: {
      text: config.doc_to_text === undefined ? wording.text : fieldAt(file, key('doc_to_text'), config.doc_to_text),
      target:
        config.doc_to_target === undefined
          ? wording.target
          : targetOf(file, key('doc_to_target'), config.doc_to_target),
      choice: choice === undefined ? wording.choice : choiceOf(file, key('doc_to_choice'), choice),
      targetDelimiter: config.target_delimiter ?? wording.targetDelimiter,
      fewshotDelimiter: config.fewshot_delimiter ?? wording.fewshotDelimiter,
    },
  };
  const split = config.split ?? settings.fewshot_split;
  if (count === 0) return { ...shared, examples: [], fromAskedRows: false };
  if (split == null && config.samples !== undefined)
    return { ...shared, examples: config.samples, fromAskedRows: false };
  const name = split ?? settings.training_split ?? settings.validation_split ?? asked;
  const keys =
    config.split !== undefined ? key('split') : settings.fewshot_split != null ? ['fewshot_split'] : ['training_split'];
  return { ...shared, examples: splits.get(name, keys), fromAskedRows: name === asked };
}

function generationOf(settings: Settings, file: YamlFile): Generation {
  const kwargs = settings.generation_kwargs;
  const until = kwargs?.until ?? [settings.fewshot_delimiter];
  const stop = typeof until === 'string' ? [until] : until;
  if (stop.some((text) => text.includes('\\n'))) {
    throw new InputError(
      `${file.whereIs(['generation_kwargs', 'until'])}: until: a backslash and an "n", not a newline; write "\\n" in double quotes`,
    );
  }
  const temperature = kwargs?.temperature ?? 0;
  return {
    maxNewTokens: kwargs?.max_gen_toks ?? kwargs?.max_new_tokens ?? 256,
    stop,
    temperature: samplingTemperature(kwargs?.do_sample, temperature, () =>
      file.whereIs(['generation_kwargs', 'do_sample']),
    ),
    topK: kwargs?.top_k ?? 0,
    topP: kwargs?.top_p ?? 1,
  };
}

function samplingTemperature(doSample: boolean | undefined, temperature: number, where: () => string): number {
  if (doSample === false) return 0;
  if (doSample === true && temperature === 0) {
    throw new InputError(`${where()}: do_sample: true needs a temperature above 0; set generation_kwargs.temperature`);
  }
  return temperature;
}
