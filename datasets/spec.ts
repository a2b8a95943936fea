/**
 * The pipeline file: what to run. Read, checked, and resolved to plain data that fits in `run.json`.
 *
 * Data and tasks are found beside the pipeline file; the run directory, and every path given on the command line, from
 * the current directory.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, extname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { InputError } from './errors.js';
import { checkSettings } from './settings.js';
import { formats, type SourceSpec, sourceFiles } from './source.js';
import { type EngineSettings, engineSchema, engineSettings } from './spec-engine.js';
import { applyOverrides } from './spec-overrides.js';
import { findTask, loadTask, type Task } from './tasks.js';
import { type KeyPath, readYaml } from './yaml.js';

/** A pipeline with everything decided and every path absolute. */
export interface Pipeline {
  readonly name: string;
  /** Of the pipeline file. */
  readonly path: string;
  /** A known name, `owner/name` on the hub, or the absolute path of a directory or GGUF file. */
  readonly model: string;
  readonly work: TaskWork | TableWork;
  readonly engine: EngineSettings;
  readonly runDir: string;
  /** Rows of each task, or of the table; null takes all. */
  readonly limit: number | null;
  /** Of sampled tokens, and of the draw of few-shot examples. */
  readonly seed: number;
  readonly shardRows: number;
  /** Source columns wanted in the output. */
  readonly columns: readonly string[];
}

/** An evaluation. */
export interface TaskWork {
  readonly kind: 'tasks';
  readonly tasks: readonly Task[];
  readonly applyChatTemplate: boolean;
  /** Examples as turns of the conversation rather than inside one message. */
  readonly fewshotAsMultiturn: boolean;
}

/** A generation over any table. */
export interface TableWork {
  readonly kind: 'table';
  readonly source: SourceSpec;
  /** The column that names each row; null numbers them. */
  readonly id: string | null;
  readonly prompt: PromptSettings;
  readonly generate: GenerateSettings;
}

export interface PromptSettings {
  readonly system: string | null;
  readonly template: string;
  readonly chat: boolean;
  /** `file:line` of the template, for messages. */
  readonly where: string;
}

export interface GenerateSettings {
  readonly maxNewTokens: number;
  readonly stop: readonly string[];
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
}

export interface LoadOptions {
  /** `key.path=value`, the value as in YAML; later ones win. */
  readonly overrides?: readonly string[];
  readonly limit?: number;
  readonly runDir?: string;
}

/** The tasks that come with the package. */
export const builtInTasks = fileURLToPath(new URL('../../pipelines/tasks', import.meta.url));

const count = z.int().min(1);
const texts = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => (typeof value === 'string' ? [value] : value));

const generateSchema = z.strictObject({
  maxNewTokens: count.default(256),
  stop: texts.default([]),
  temperature: z.number().min(0).default(0),
  topK: z.int().min(0).default(0),
  topP: z.number().gt(0).max(1).default(1),
});

const pipelineSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[\w.-]+$/, 'letters, digits, ".", "_" and "-" only')
    .optional(),
  model: z.string().min(1),
  tasks: texts.optional(),
  source: z
    .strictObject({
      path: texts,
      format: z.enum(formats).optional(),
      field: z.string().optional(),
      delimiter: z.string().min(1).optional(),
      id: z.string().optional(),
    })
    .optional(),
  prompt: z
    .strictObject({ system: z.string().optional(), template: z.string().min(1), chat: z.boolean().default(false) })
    .optional(),
  generate: generateSchema.optional(),
  engine: engineSchema,
  runDir: z.string().min(1).optional(),
  limit: count.optional(),
  seed: z.int().min(0).default(1234),
  shardRows: count.default(512),
  columns: texts.default([]),
  numFewshot: z.int().min(0).optional(),
  applyChatTemplate: z.boolean().default(false),
  fewshotAsMultiturn: z.boolean().optional(),
});

type Settings = z.output<typeof pipelineSchema>;

/** What tells a key's origin, for messages and for the directory that its path is relative to. */
interface Origins {
  whereIs(keys: KeyPath): string;
  directoryOf(keys: KeyPath): string;
}

/** @throws InputError naming the file and line, or the option, the key, what was found and what to change. */
export function loadPipeline(path: string, options: LoadOptions = {}): Pipeline {
  const file = readYaml(path);
  if (typeof file.value !== 'object' || file.value === null || Array.isArray(file.value)) {
    throw new InputError(
      `${path}:1: a pipeline is made of keys such as "model" and "tasks"; see pipelines/quickstart.yaml`,
    );
  }
  const overrides = applyOverrides(file.value, options.overrides ?? []);
  const origins: Origins = {
    whereIs: (keys) => overrides.optionAt(keys) ?? file.whereIs(keys),
    directoryOf: (keys) => (overrides.optionAt(keys) === undefined ? dirname(resolve(path)) : process.cwd()),
  };
  const settings = checkSettings(pipelineSchema, overrides.value, origins.whereIs);
  refuseContradictions(settings, origins);
  const name = settings.name ?? basename(path, extname(path));
  return {
    name,
    path: resolve(path),
    model: resolveModel(settings.model, origins.directoryOf(['model'])),
    work: settings.tasks === undefined ? tableWork(settings, origins) : taskWork(settings, settings.tasks, origins),
    engine: engineSettings(settings.engine),
    runDir: resolve(options.runDir ?? settings.runDir ?? `runs/${name}`),
    limit: options.limit ?? settings.limit ?? null,
    seed: settings.seed,
    shardRows: settings.shardRows,
    columns: settings.columns,
  };
}

function refuseContradictions(settings: Settings, { whereIs }: Origins): void {
  const has = (key: keyof Settings) => settings[key] !== undefined;
  const refuse = (key: keyof Settings, advice: string) => {
    throw new InputError(`${whereIs([key])}: ${key}: ${advice}`);
  };
  if (has('tasks') && has('source')) refuse('source', 'a pipeline has either tasks or a source; remove one of the two');
  if (has('tasks')) {
    if (has('prompt')) refuse('prompt', 'goes with a source; a task file says its own prompt');
    if (has('generate')) refuse('generate', 'goes with a source; a task file says generation_kwargs');
    if (settings.tasks?.length === 0) refuse('tasks', 'the list is empty; name at least one task');
    if (settings.fewshotAsMultiturn === true && !settings.applyChatTemplate)
      refuse('fewshotAsMultiturn', 'needs applyChatTemplate: true');
    return;
  }
  if (!has('source')) throw new InputError(`${whereIs([])}: nothing to do; add tasks, or a source with a prompt`);
  if (!has('prompt')) refuse('source', 'needs a prompt with a template; add prompt: { template: "{{ column }}" }');
  for (const key of ['numFewshot', 'fewshotAsMultiturn'] as const)
    if (has(key)) refuse(key, 'goes with tasks, not with a source');
  if (settings.applyChatTemplate)
    refuse('applyChatTemplate', 'goes with tasks; with a source write prompt: { chat: true }');
  if (settings.prompt?.system !== undefined && !settings.prompt.chat) {
    throw new InputError(
      `${whereIs(['prompt', 'system'])}: prompt.system: needs prompt.chat: true; or write the text into the template`,
    );
  }
}

function taskWork(settings: Settings, names: readonly string[], { whereIs, directoryOf }: Origins): TaskWork {
  const tasks = names.map((name, i) => {
    const keys = ['tasks', i];
    const directory = directoryOf(keys);
    const path = findTask(name, {
      directory,
      searchPath: [resolve(directory, 'tasks'), builtInTasks],
      where: whereIs(keys),
    });
    return loadTask(path, settings.numFewshot);
  });
  const seen = new Map<string, string>();
  tasks.forEach((task, i) => {
    const other = seen.get(task.name);
    if (other !== undefined) {
      throw new InputError(
        `${whereIs(['tasks', i])}: tasks: "${task.name}" is there twice (${other}, ${task.path}); remove or rename one`,
      );
    }
    seen.set(task.name, task.path);
  });
  return {
    kind: 'tasks',
    tasks,
    applyChatTemplate: settings.applyChatTemplate,
    fewshotAsMultiturn: settings.fewshotAsMultiturn ?? settings.applyChatTemplate,
  };
}

function tableWork(settings: Settings, { whereIs, directoryOf }: Origins): TableWork {
  const source = settings.source!;
  const prompt = settings.prompt!;
  const files = sourceFiles(
    source.path,
    directoryOf(['source', 'path']),
    `${whereIs(['source', 'path'])}: source.path`,
  );
  return {
    kind: 'table',
    source: {
      files,
      ...(source.format === undefined ? {} : { format: source.format }),
      ...(source.field === undefined ? {} : { field: source.field }),
      ...(source.delimiter === undefined ? {} : { delimiter: source.delimiter }),
    },
    id: source.id ?? null,
    prompt: {
      system: prompt.system ?? null,
      template: prompt.template,
      chat: prompt.chat,
      where: `${whereIs(['prompt', 'template'])}: prompt.template`,
    },
    generate: settings.generate ?? generateSchema.parse({}),
  };
}

/** A name stays a name; what is written as a path, or is one, becomes absolute. */
function resolveModel(model: string, directory: string): string {
  const path = resolve(directory, model);
  const writtenAsPath = /^(\.{1,2}\/|\/|[A-Za-z]:[\\/])/.test(model) || model.endsWith('.gguf');
  return writtenAsPath || (model.includes('/') && existsSync(path)) ? path : model;
}
