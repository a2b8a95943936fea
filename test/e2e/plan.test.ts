import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { formatHardware } from '../../engine/policy/hardware-file.js';
import { namedHardware } from '../../engine/policy/profiles.js';
import { zigzag } from '../support/command.js';

const scratch = mkdtempSync(join(tmpdir(), 'zigzag-plan-'));
afterAll(() => rmSync(scratch, { recursive: true }));
const lengths = ['--prompt-len', '512', '--gen-len', '32'];
const opt30b = ['plan', '--model', 'opt-30b', ...lengths];

describe('zigzag plan', () => {
  it('ends stdout with the policy, what it predicts, and alternatives, as JSON', () => {
    const { code, json, stderr } = zigzag([...opt30b, '--hardware', 't4-208gb', '--json']);
    expect(code, stderr).toBe(0);
    const fractions = { gpu: expect.any(Number), cpu: expect.any(Number), disk: expect.any(Number) };
    expect(json).toMatchObject({
      policy: {
        gpuBatchSize: expect.any(Number),
        numGpuBatches: expect.any(Number),
        weightBits: 16,
        kvBits: 16,
        schedule: expect.stringMatching(/^(continuous|block)$/),
        fractions: { weights: fractions, kv: fractions, activations: fractions },
      },
      predicted: {
        prefillSeconds: expect.any(Number),
        decodeSeconds: expect.any(Number),
        generationThroughput: expect.any(Number),
        peakBytes: { gpu: expect.any(Number), cpu: expect.any(Number), disk: expect.any(Number) },
        bound: expect.any(String),
      },
      alternatives: expect.arrayContaining([expect.objectContaining({ change: { weightBits: 4 }, feasible: true })]),
      searchSeconds: expect.any(Number),
    });
  });

  it('plans for the machine in a file', () => {
    const file = join(scratch, 'machine.json');
    writeFileSync(file, formatHardware({ ...namedHardware('h100'), name: 'ours' }));
    const { code, stdout } = zigzag([...opt30b, '--hardware', file]);
    expect(code).toBe(0);
    expect(stdout).toContain('opt-30b on ours: 1,024 sequences of 512 prompt tokens');
  });

  it('says how to replace a measurement that it cannot read', () => {
    const cache = join(scratch, 'old');
    mkdirSync(join(cache, 'zigzag'), { recursive: true });
    const { name: _, ...nameless } = namedHardware('h100');
    writeFileSync(join(cache, 'zigzag', 'hardware.json'), JSON.stringify(nameless));
    const { code, stderr } = zigzag(opt30b, { XDG_CACHE_HOME: cache });
    expect(code).toBe(2);
    expect(stderr).toMatch(/hardware\.json: name: needs a text, found nothing; zigzag doctor --measure writes it anew/);
  });

  it.each([
    ['a budget that cannot hold the model', ['--hardware', 't4-208gb', '--disk-memory', '3GB'], 'would make it fit'],
    ['a gpu that holds no sequence', ['--hardware', 't4-208gb', '--device-memory', '1GB'], 'raise --device-memory'],
    ['a machine that nobody knows', ['--hardware', 't5'], 'name one of t4-208gb, rtx-3090, h100, h200-16gib'],
    ['a machine that was not measured', [], 'run zigzag doctor'],
  ])('refuses %s in one line, with exit code 2', (_, words, message) => {
    const { code, stderr } = zigzag([...opt30b, ...words], { XDG_CACHE_HOME: scratch });
    expect(code).toBe(2);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(stderr).toContain(message);
  });

  it.each([
    ['neither a pipeline nor a model', ['plan'], 'give a pipeline, or --model, --prompt-len and --gen-len'],
    [
      'lengths beyond the context',
      ['plan', '--model', 'opt-30b', '--prompt-len', '2048', '--gen-len', '1', '--hardware', 'h100'],
      '2048; shorten',
    ],
  ])('refuses %s', (_, words, message) => {
    const { code, stderr } = zigzag(words.includes('--hardware') ? words : [...words, '--hardware', 'h100']);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});
