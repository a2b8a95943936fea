/** A pipeline over the smallest real model: sampled stories, in several shards. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FIXTURES } from './golden.js';

export interface StoryOptions {
  readonly rows: number;
  readonly shardRows: number;
  readonly maxNewTokens: number;
}

/** @returns the path of the pipeline file. */
export function writeStoryPipeline(directory: string, { rows, shardRows, maxNewTokens }: StoryOptions): string {
  mkdirSync(directory, { recursive: true });
  const names = ['Lily', 'Tom', 'Mia', 'Ben', 'Sue', 'Max'];
  const lines = Array.from({ length: rows }, (_, i) => {
    const start = `Once upon a time, ${names[i % names.length]} found ${'a very '.repeat(i % 5)}big box`;
    return JSON.stringify({ number: i, start });
  });
  writeFileSync(join(directory, 'starts.jsonl'), `${lines.join('\n')}\n`);
  const path = join(directory, 'stories.yaml');
  writeFileSync(
    path,
    [
      'name: stories',
      `model: ${join(FIXTURES, 'stories260k')}`,
      'source: { path: starts.jsonl, id: number }',
      'prompt: { template: "{{ start }}" }',
      `generate: { maxNewTokens: ${maxNewTokens}, temperature: 0.7, topP: 0.9 }`,
      'columns: [start]',
      'seed: 7',
      'engine: { threads: 1 }',
      `shardRows: ${shardRows}`,
      '',
    ].join('\n'),
  );
  return path;
}

/** Bytes of each part, by name. */
export function partsOf(runDir: string): Readonly<Record<string, string>> {
  const directory = join(runDir, 'outputs');
  const names = readdirSync(directory).filter((name) => name.endsWith('.parquet'));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(directory, name), 'base64')]));
}
