/** `zigzag tasks list|describe`: the questions that a pipeline can name. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { Task } from '../../datasets/tasks.js';
import { print, printJson } from '../print.js';
import { formatTable } from '../terminal.js';

export function addTasks(program: Command): void {
  const tasks = program.command('tasks').description('list and describe tasks');

  tasks
    .command('list')
    .description('list the tasks of ./tasks and those that come with zigzag')
    .option('--json', 'end stdout with one JSON object')
    .action(list);

  tasks
    .command('describe')
    .description('print what a task asks, of which data, and how it is scored')
    .argument('<task>', 'name of `zigzag tasks list`, or a YAML file')
    .option('--json', 'end stdout with one JSON object')
    .action(describe);
}

/** What reads tasks, loaded when a task is read, and where it looks; a pipeline elsewhere also finds those beside it. */
async function taskReader() {
  const [{ builtInTasks }, reader] = await Promise.all([
    import('../../datasets/spec.js'),
    import('../../datasets/tasks.js'),
  ]);
  return { ...reader, searchPath: [resolve('tasks'), builtInTasks].filter((directory) => existsSync(directory)) };
}

async function list({ json }: { json?: boolean }): Promise<void> {
  const { loadTask, searchPath, taskNames } = await taskReader();
  const paths = searchPath.flatMap((directory) => taskNames(directory).map((name) => join(directory, `${name}.yaml`)));
  const tasks = paths.map((path) => loadTask(path));
  if (json) {
    printJson({ tasks: tasks.map(summary) });
    return;
  }
  if (tasks.length === 0) {
    print('No tasks here. A task is a YAML file in ./tasks.');
    return;
  }
  const rows = tasks.map((task) => [task.name, task.outputType, `${task.fewshot.count}`, metricsOf(task)]);
  print(formatTable([['task', 'type', 'examples', 'metrics'], ...rows], ''));
}

async function describe(name: string, { json }: { json?: boolean }): Promise<void> {
  const { findTask, loadTask, searchPath } = await taskReader();
  const task = loadTask(findTask(name, { directory: process.cwd(), searchPath, where: 'zigzag tasks describe' }));
  if (json) {
    printJson(task);
    return;
  }
  const { wording, generation, fewshot } = task;
  const rows = [
    ['task', task.version === null ? task.name : `${task.name} (version ${task.version})`],
    ['file', task.path],
    ['data', task.data.files.join(', ')],
    ['type', task.outputType],
    ['examples', fewshot.count === 0 ? 'none' : `${fewshot.count} (${fewshot.sampler})`],
    ['question', JSON.stringify(wording.text.text)],
    ['answer', typeof wording.target === 'number' ? `option ${wording.target}` : JSON.stringify(wording.target.text)],
    ...(wording.choice === null ? [] : [['options', optionsOf(wording.choice)]]),
    ...(task.outputType === 'generate_until'
      ? [
          [
            'generation',
            `at most ${generation.maxNewTokens} tokens, until ${JSON.stringify(generation.stop)}, temperature ${generation.temperature}`,
          ],
        ]
      : []),
    ['metrics', metricsOf(task)],
    ...task.filters.filter(({ name }) => name !== 'none').map(({ name }) => ['filter', name]),
  ];
  print(formatTable(rows, ''));
}

function summary(task: Task) {
  const { name, path, version, outputType } = task;
  return {
    name,
    path,
    version,
    outputType,
    numFewshot: task.fewshot.count,
    metrics: task.metrics.map((metric) => metric.metric),
  };
}

function metricsOf(task: Task): string {
  return task.metrics.map((metric) => metric.metric).join(', ');
}

function optionsOf(choice: NonNullable<Task['wording']['choice']>): string {
  return JSON.stringify('text' in choice ? choice.text : choice);
}
