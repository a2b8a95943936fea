import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zigzag } from '../support/command.js';

interface Golden {
  readonly prompts: readonly {
    readonly ids: readonly number[];
    readonly greedy: readonly number[];
    readonly logprobs: readonly number[];
    readonly top5: readonly (readonly (readonly [number, number])[])[];
    readonly promptLogprobs: readonly (number | null)[];
  }[];
}

const model = 'test/fixtures/models/llama';
const golden = JSON.parse(readFileSync(join(model, 'golden.json'), 'utf8')) as Golden;
const prompt = golden.prompts[3]!;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-generate-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('zigzag generate', () => {
  it.each(['onnx', 'reference'])('answers ids as recorded, with log-probabilities, on the %s backend', (backend) => {
    const words = ['--prompt-ids', prompt.ids.join(','), '--max-new-tokens', '24', '--logprobs', '5', '--ignore-eos'];
    const { code, json, stdout } = zigzag(['generate', model, ...words, '--backend', backend, '--json']);
    expect(code).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    expect(json).toMatchObject({ text: '', tokens: prompt.greedy, finishReason: 'length' });
    const { logprobs, promptLogprobs } = json as {
      logprobs: { token: number; logprob: number; top: [number, number][] }[];
      promptLogprobs: (number | null)[];
    };
    expect(promptLogprobs[0]).toBeNull();
    prompt.promptLogprobs.slice(1).forEach((value, i) => void expect(promptLogprobs[i + 1]).toBeCloseTo(value!, 3));
    logprobs.forEach(({ token, logprob, top }, step) => {
      expect(token).toBe(prompt.greedy[step]);
      expect(logprob).toBeCloseTo(prompt.logprobs[step]!, 3);
      expect(top.map(([id]) => id)).toEqual(prompt.top5[step]!.map(([id]) => id));
    });
  });

  it.each([
    ['within a budget', ['--host-memory', '4MB', '--context-tokens', '99', '--schedule', 'block', '--no-overlap']],
    ['from a store in memory', []],
  ])('answers the same from an offload store %s', (_, words) => {
    const offload = ['--weight-bits', '32', '--offload-dir', join(directory, 'offload'), ...words];
    const ids = ['--prompt-ids', prompt.ids.join(','), '--max-new-tokens', '24', '--ignore-eos'];
    const { code, json } = zigzag(['generate', model, ...ids, ...offload, '--json']);
    expect(code).toBe(0);
    expect(json).toMatchObject({ tokens: prompt.greedy });
  });

  it('prints the ids where a model has no tokenizer', () => {
    const { code, stdout } = zigzag(['generate', model, '--prompt-ids', prompt.ids.join(','), '--max-new-tokens', '3']);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${prompt.greedy.slice(0, 3).join(',')}\n` });
  });

  it('prints the text, and only that, on stdout', () => {
    const [, told] = JSON.parse(readFileSync('test/fixtures/stories260k/golden.json', 'utf8')).prompts;
    const words = ['--prompt', told.text, '--max-new-tokens', `${told.greedy.length}`, '--ignore-eos'];
    const { code, stdout, stderr } = zigzag(['generate', 'test/fixtures/stories260k', ...words]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${told.greedyText}\n` });
    expect(stderr).toContain('generated in');
  });

  it('ends before a stop string', () => {
    const words = ['--prompt', 'Once upon a time', '--max-new-tokens', '30', '--stop', ' girl'];
    const { json } = zigzag(['generate', 'test/fixtures/stories260k', ...words, '--json']);
    expect(json).toMatchObject({ text: ', there was a little', finishReason: 'stop' });
  });

  it.each([
    ['no prompt', [], 'give --prompt TEXT or --prompt-ids'],
    ['two prompts', ['--prompt', 'a', '--prompt-ids', '1'], 'exclude each other'],
    ['a chat of ids', ['--chat', '--prompt-ids', '1'], '--chat needs the prompt as text'],
    ['an id outside the vocabulary', ['--prompt-ids', '1,300'], '300'],
    ['a text without a tokenizer', ['--prompt', 'a'], 'no tokenizer'],
    ['a prompt longer than the context', ['--prompt-ids', Array(300).fill(1).join(',')], '256'],
    ['a budget that is too small', ['--prompt-ids', '1', '--host-memory', '9kB'], 'raise --host-memory'],
    ['a size that is none', ['--prompt-ids', '1', '--host-memory', 'big'], 'such as 550MB'],
    ['an unknown backend', ['--prompt-ids', '1', '--backend', 'gpu'], 'Allowed choices are onnx, reference'],
    ['a misspelt option', ['--prompt-idz', '1'], 'Did you mean --prompt-ids?'],
    ['a wrong number', ['--prompt-ids', '1', '--max-new-tokens', '0'], 'whole number of at least 1'],
  ])('refuses %s with exit code 2, one message and no stack trace', (_, words, message) => {
    const { code, stdout, stderr } = zigzag(['generate', model, ...words]);
    expect(stderr).toContain(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it.each([
    ['that is not there', () => 'nowhere', /no model or file "nowhere"/],
    ['whose weights are cut short', cutShort, /model-00001.*\.safetensors/],
    ['of a family that is not known', unknownFamily, /mamba.*llama/s],
    ['that is no model file', notAModel, /x\.gguf/],
  ])('refuses a model %s', (_, make, message) => {
    const { code, stderr } = zigzag(['generate', make(), '--prompt-ids', '1']);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});

function cutShort(): string {
  const copy = join(directory, 'cut');
  cpSync(model, copy, { recursive: true });
  truncateSync(join(copy, 'model-00001-of-00002.safetensors'), 10_000);
  return copy;
}

function unknownFamily(): string {
  const copy = join(directory, 'family');
  cpSync(model, copy, { recursive: true });
  const config = JSON.parse(readFileSync(join(copy, 'config.json'), 'utf8'));
  writeFileSync(
    join(copy, 'config.json'),
    JSON.stringify({ ...config, model_type: 'mamba', architectures: ['MambaForCausalLM'] }),
  );
  return copy;
}

function notAModel(): string {
  const path = join(directory, 'x.gguf');
  writeFileSync(path, 'this is text');
  return path;
}
