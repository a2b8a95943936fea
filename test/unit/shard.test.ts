import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import type { Ask, PromptRow } from '../../datasets/rows.js';
import { readManifest, readShard, writeShards } from '../../datasets/shard.js';
import { openLengthOrder } from '../../datasets/shard-order.js';

const directory = mkdtempSync(join(tmpdir(), 'zigzag-shard-'));
let runDir = directory;
let runs = 0;
beforeEach(() => {
  runDir = join(directory, `run-${runs++}`);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const generate: Ask = { kind: 'generate', maxNewTokens: 8, stop: ['\n'], temperature: 0, topK: 0, topP: 1, seed: 1 };
const score: Ask = { kind: 'score' };

function row(task: string, name: string, promptTokens: number, more: Partial<PromptRow> = {}): PromptRow {
  const prompt = `${name}: ☕ "quoted"\n𝄞`;
  const promptSha256 = createHash('sha256').update(prompt).digest('hex');
  return {
    rowId: `${task}/${name}`,
    task,
    prompt,
    promptSha256,
    promptTokens,
    options: null,
    target: null,
    columns: {},
    error: null,
    ...more,
  };
}

async function* stream(rows: readonly PromptRow[]) {
  for (const one of rows) yield { row: one, ask: one.options === null ? generate : score };
}

const rows = [
  row('a', '1', 5, { target: 'x', columns: { n: 1, list: ['y', null], deep: { k: false } } }),
  row('a', '2', 9),
  row('a', '3', 0, { prompt: '', error: 'rows.csv:4: 1 cells where the header has 2' }),
  row('a', '4', 9),
  row('b', '1', 3, { options: [' yes', ' no', ''], target: '1' }),
];

describe('shards', () => {
  it('hold the rows of one task each, the longest first, as they were', async () => {
    const manifest = await writeShards({ requests: stream(rows), runDir, fingerprint: 'f1', shardRows: 3 });
    expect(
      manifest.shards.map(({ index, path, rows: count, task, ask, promptTokens }) => [
        index,
        path,
        count,
        task,
        ask,
        promptTokens,
      ]),
    ).toEqual([
      [0, 'shards/00000.arrow', 3, 'a', generate, 23],
      [1, 'shards/00001.arrow', 1, 'a', generate, 0],
      [2, 'shards/00002.arrow', 1, 'b', score, 3],
    ]);
    expect(manifest.rows).toBe(5);
    const read = manifest.shards.map((shard) => readShard(join(runDir, shard.path), shard.sha256));
    // Rows of equal length keep their order.
    expect(read).toEqual([[rows[1], rows[3], rows[0]], [rows[2]], [rows[4]]]);
    expect(readManifest(runDir)).toEqual(manifest);
    expect(readdirSync(join(runDir, 'shards')).sort()).toEqual([
      '00000.arrow',
      '00001.arrow',
      '00002.arrow',
      'manifest.json',
    ]);
  });

  it('are the same bytes for the same rows', async () => {
    const first = await writeShards({ requests: stream(rows), runDir, fingerprint: 'f', shardRows: 2 });
    const second = await writeShards({
      requests: stream(rows),
      runDir: `${runDir}-again`,
      fingerprint: 'f',
      shardRows: 2,
    });
    expect(second).toEqual(first);
    for (const { path, sha256 } of first.shards) {
      expect(
        createHash('sha256')
          .update(readFileSync(join(`${runDir}-again`, path)))
          .digest('hex'),
      ).toBe(sha256);
    }
  });

  it('that are not all written have no manifest', async () => {
    async function* failing() {
      yield* stream(rows.slice(0, 4));
      yield* stream(rows.slice(4));
      throw new Error('the source ended badly');
    }
    await expect(writeShards({ requests: failing(), runDir, fingerprint: 'f', shardRows: 1 })).rejects.toThrow(
      'ended badly',
    );
    expect(readManifest(runDir)).toBeUndefined();
    expect(readdirSync(join(runDir, 'shards')).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('that were changed are not read', async () => {
    const { shards } = await writeShards({ requests: stream(rows), runDir, fingerprint: 'f', shardRows: 5 });
    const path = join(runDir, shards[0]!.path);
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
    expect(() => readShard(path, shards[0]!.sha256)).toThrow(
      /00000\.arrow: not the shard that was written: .*delete the directory of the shards/,
    );
    rmSync(path);
    expect(() => readShard(path, shards[0]!.sha256)).toThrow(
      /00000\.arrow: a shard that the manifest lists cannot be read/,
    );
  });
});

describe('a manifest', () => {
  it.each([
    [
      'of another version',
      '{"version": 99, "fingerprint": "f", "rows": 0, "shards": []}',
      /needs a manifest of version 1, found version 99; delete .*shards/,
    ],
    ['that is not JSON', '{"version": 1, "fing', /manifest\.json: not valid JSON; delete .*shards/],
  ])('%s is refused', (_, text, message) => {
    mkdirSync(join(runDir, 'shards'), { recursive: true });
    writeFileSync(join(runDir, 'shards', 'manifest.json'), text);
    expect(() => readManifest(runDir)).toThrow(message);
  });

  it('of a run that was not planned is not there', () => {
    expect(readManifest(runDir)).toBeUndefined();
  });
});

describe('order of length', () => {
  it('is that of a stable sort, however little is held in memory', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 60 }),
        fc.integer({ min: 1, max: 400 }),
        async (lengths, bufferChars) => {
          const given = lengths.map((length, i) => row('t', `${i}\u2028`, length));
          const order = openLengthOrder(runDir, bufferChars);
          for (const one of given) order.add(one);
          const sorted: PromptRow[] = [];
          for await (const one of order.rows()) sorted.push(one);
          order.close();
          expect(sorted).toEqual([...given].sort((a, b) => b.promptTokens - a.promptTokens));
          expect(existsSync(runDir) ? readdirSync(runDir) : []).toEqual([]);
        },
      ),
      { numRuns: 50 },
    );
  });
});
