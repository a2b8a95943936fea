/**
 * The keys of a task file that are supported, with lm-eval's defaults, and those that are known and refused.
 */
import { z } from 'zod';
import { filterListSchema, metricListSchema } from './tasks-metrics.js';

const texts = z.union([z.string(), z.array(z.string())]);
const field = z.union([z.string(), z.int()]);
export const choices = z.union([z.string(), z.array(field), z.record(z.string(), field)]);

export const fewshotConfigSchema = z.strictObject({
  sampler: z.enum(['default', 'first_n']).default('default'),
  split: z.string().optional(),
  samples: z.array(z.record(z.string(), z.unknown())).optional(),
  fewshot_indices: z.array(z.int().min(0)).optional(),
  doc_to_text: z.string().optional(),
  doc_to_target: field.optional(),
  doc_to_choice: choices.optional(),
  target_delimiter: z.string().optional(),
  fewshot_delimiter: z.string().optional(),
});

export const taskSchema = z.strictObject({
  task: z.string().regex(/^[\w.-]+$/, 'letters, digits, ".", "_" and "-" only'),
  task_alias: z.string().nullish(),
  tag: texts.nullish(),
  dataset_path: z.enum(['json', 'csv', 'parquet', 'arrow']),
  dataset_name: z.null().optional(),
  dataset_kwargs: z.strictObject({
    data_files: z.union([z.string(), z.array(z.string()), z.record(z.string(), texts)]),
    field: z.string().optional(),
    delimiter: z.string().min(1).optional(),
    sep: z.string().min(1).optional(),
  }),
  training_split: z.string().nullish(),
  validation_split: z.string().nullish(),
  test_split: z.string().nullish(),
  fewshot_split: z.string().nullish(),
  output_type: z.enum(['generate_until', 'multiple_choice']).default('generate_until'),
  description: z.string().default(''),
  doc_to_text: z.string(),
  doc_to_target: field,
  doc_to_choice: choices.nullish(),
  target_delimiter: z.string().default(' '),
  fewshot_delimiter: z.string().default('\n\n'),
  num_fewshot: z.int().min(0).nullish(),
  fewshot_config: fewshotConfigSchema.nullish(),
  generation_kwargs: z
    .strictObject({
      until: texts.optional(),
      max_gen_toks: z.int().min(1).optional(),
      max_new_tokens: z.int().min(1).optional(),
      do_sample: z.boolean().optional(),
      temperature: z.number().min(0).default(0),
      top_k: z.int().min(0).default(0),
      top_p: z.number().gt(0).max(1).default(1),
    })
    .nullish(),
  metric_list: metricListSchema.min(1).optional(),
  filter_list: filterListSchema.min(1).optional(),
  repeats: z.literal(1).default(1),
  // lm-eval acts on these two only when it is given n-gram files.
  should_decontaminate: z.boolean().optional(),
  doc_to_decontamination_query: z.string().optional(),
  unsafe_code: z.literal(false).default(false),
  metadata: z.record(z.string(), z.unknown()).nullish(),
});

/** Keys of lm-eval that are known and not supported, each with a way out. */
export const refusedKeys: Readonly<Record<string, string>> = {
  include: 'copy the keys of the included file into this one',
  group: 'groups are not supported; name the tasks in the pipeline',
  process_docs: 'it runs Python code; prepare the rows in the data file',
  process_results: 'it runs Python code; use metric_list',
  custom_dataset: 'it runs Python code; use dataset_path: json with data_files',
  use_prompt: 'prompts of other packages are not supported; write doc_to_text',
  gen_prefix: 'write it at the end of doc_to_text',
  doc_to_image: 'only text is supported',
  doc_to_audio: 'only text is supported',
};
