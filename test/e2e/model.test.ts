import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_MODEL, modelsDirectory } from '../../cli/bootstrap.js';
import { zigzag } from '../support/command.js';

const tiny = 'test/fixtures/models/llama-tied-rope3';
let directory: string;
let env: NodeJS.ProcessEnv;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'zigzag-model-'));
  env = { XDG_CACHE_HOME: join(directory, 'cache'), XDG_STATE_HOME: join(directory, 'state') };
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('zigzag model', () => {
  it('imports a directory by linking it, lists it, inspects it, and answers by its name', () => {
    const imported = zigzag(['model', 'import', tiny, '--name', 'tiny', '--json'], env);
    expect(imported).toMatchObject({
      code: 0,
      json: { name: 'tiny', format: 'safetensors', importedFrom: resolve(tiny) },
    });
    expect(zigzag(['model', 'list', '--json'], env).json).toMatchObject({ models: [{ name: 'tiny' }] });
    // As its own config.json and the header of its file say.
    expect(zigzag(['model', 'inspect', 'tiny', '--json'], env).json).toMatchObject({
      family: 'llama',
      layers: 3,
      hiddenSize: 64,
      heads: 4,
      kvHeads: 1,
      headDim: 16,
      vocabulary: 384,
      storedTypes: { BF16: 29 },
      tokenizer: false,
    });
    const words = ['generate', 'tiny', '--prompt-ids', '1,2,3', '--max-new-tokens', '2', '--json'];
    expect(zigzag(words, env).json).toMatchObject({ finishReason: 'length' });
  });

  it('makes an offload store, lists it, inspects it, verifies it, and answers by its name as its source does', () => {
    const imported = zigzag(['model', 'import', tiny, '--bits', '32', '--name', 'laid-out', '--json'], env);
    const path = join(env.XDG_CACHE_HOME as string, 'zigzag', 'models', 'laid-out');
    expect(imported).toMatchObject({ code: 0, json: { name: 'laid-out', format: 'store', path } });
    const listed = zigzag(['model', 'list', '--json'], env).json as { models: { name: string; format: string }[] };
    expect(listed.models).toContainEqual(imported.json);
    expect(zigzag(['model', 'inspect', 'laid-out', '--json'], env).json).toMatchObject({
      format: 'store',
      layers: 3,
      storedTypes: { float32: 29 },
      // float32 holds every value of the source, so the store is the same model.
      identity: (zigzag(['model', 'inspect', tiny, '--json'], env).json as { identity: string }).identity,
    });
    expect(zigzag(['model', 'verify', 'laid-out', '--json'], env)).toMatchObject({
      code: 0,
      json: { path, whole: true },
    });
    const words = ['--prompt-ids', '1,2,3', '--max-new-tokens', '5', '--ignore-eos', '--json'];
    const answers = ['laid-out', tiny].map(
      (model) => (zigzag(['generate', model, ...words], env).json as { tokens: number[] }).tokens,
    );
    expect(answers[0]).toHaveLength(5);
    expect(answers[0]).toEqual(answers[1]);
  });

  it('makes a store of a name, under a name that says its form, and makes it anew', () => {
    zigzag(['model', 'import', tiny, '--name', 'tiny'], env);
    for (let round = 0; round < 2; round++) {
      expect(zigzag(['model', 'import', 'tiny', '--bits', '4', '--json'], env)).toMatchObject({
        code: 0,
        json: { name: 'tiny-int4', format: 'store' },
      });
    }
  });

  it('finds the damage in a store', () => {
    const { json } = zigzag(['model', 'import', tiny, '--bits', '16', '--name', 'damaged', '--json'], env);
    const data = join((json as { path: string }).path, 'weights.bin');
    const file = openSync(data, 'r+');
    writeSync(file, Buffer.from([0xff]), 0, 1, 8192);
    closeSync(file);
    const { code, stderr } = zigzag(['model', 'verify', 'damaged'], env);
    expect(stderr).toMatch(/weights\.bin: layer 0 tokens .*SHA-256/);
    expect(code).toBe(2);
  });

  it('inspects for people, one fact a line', () => {
    const { stdout } = zigzag(['model', 'inspect', tiny], env);
    expect(stdout).toMatch(/^family +llama$/m);
    expect(stdout).toMatch(/^heads +4 of 16, 1 for keys and values$/m);
    expect(stdout).toMatch(/^tokenizer +none \(ids only\)$/m);
  });

  it.each([
    ['a path that is not there', ['import', 'nowhere.gguf'], /nowhere\.gguf: no such file/],
    ['a directory without a model', ['import', 'docs'], /docs.*config\.json/],
    ['other bits', ['import', tiny, '--bits', '5'], /must be 4, 8, 16 or 32/],
    ['a store in the place of a model', ['import', tiny, '--bits', '16', '--name', 'tiny'], /is a model tiny already/],
    ['to verify what has no sums', ['verify', tiny], /no offload store/],
    ['a name that is none', ['import', tiny, '--name', '../x'], /cannot be a model's name/],
    ['a name that is not known', ['inspect', 'tinny'], /no model or file "tinny" \(did you mean tiny\?\)/],
    ['a pull of a name that nobody publishes', ['pull', 'tinny'], /no model or file "tinny"/],
    ['a command that is not there', ['lst'], /Did you mean list\?/],
  ])('refuses %s with exit code 2', (_, words, message) => {
    const { code, stderr } = zigzag(['model', ...words], env);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('refuses to import a file that is cut short, and links nothing', () => {
    const whole = join(tiny, 'model.safetensors');
    const cut = join(directory, 'cut');
    mkdirSync(cut);
    copyFileSync(join(tiny, 'config.json'), join(cut, 'config.json'));
    copyFileSync(whole, join(cut, 'model.safetensors'));
    truncateSync(join(cut, 'model.safetensors'), 1000);
    const { code, stderr } = zigzag(['model', 'import', cut, '--name', 'cut'], env);
    expect(stderr).toContain('model.safetensors');
    expect(code).toBe(2);
    expect(existsSync(join(env.XDG_CACHE_HOME as string, 'zigzag', 'models', 'cut'))).toBe(false);
  });

  it('knows the default model by the facts of its publisher', () => {
    const file = join(modelsDirectory(), DEFAULT_MODEL.name, DEFAULT_MODEL.file);
    expect(existsSync(file), `${file}: node bootstrap.mjs --model fetches it`).toBe(true);
    expect(zigzag(['model', 'inspect', DEFAULT_MODEL.name, '--json']).json).toMatchObject({
      path: file,
      format: 'gguf',
      family: 'llama',
      layers: 30,
      parameters: 134_515_008,
      storedTypes: { Q8_0: 1, F32: 61, Q4_1: 210 },
      context: 8192,
      tokenizer: true,
      chatTemplate: true,
      bytes: 98_362_432,
      identity: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    });
  });
});

describe('zigzag doctor', () => {
  it('says what is there', () => {
    const { json, code } = zigzag(['doctor', '--no-measure', '--json'], {
      ...env,
      XDG_CACHE_HOME: process.env.XDG_CACHE_HOME ?? '',
    });
    const { findings } = json as { findings: { name: string; state: string; found: string }[] };
    const names = ['Node', 'Processor', 'Memory', 'Cache', 'Temporal', 'Server', 'pip', 'Models', 'GPU'];
    expect(findings.map(({ name }) => name)).toEqual(names);
    expect(findings[0]?.found).toContain(process.versions.node);
    expect(code).toBe(0);
  });

  it('says what is missing and what to do, and exits with 1', () => {
    const { stdout, stderr, code } = zigzag(['doctor', '--no-measure'], {
      ...env,
      XDG_CACHE_HOME: join(directory, 'empty'),
      PATH: '',
    });
    expect(stdout).toMatch(/Temporal +no program yet\n +node bootstrap\.mjs fetches it/);
    expect(stdout).toMatch(/Models +none\n +zigzag model pull smollm2-135m-instruct/);
    expect(stdout).toMatch(/pip +not found/);
    expect(stderr).toMatch(/missing: Temporal, Models/);
    expect(code).toBe(1);
  });
});

describe('zigzag tasks', () => {
  it('lists those that come with it', () => {
    const { json } = zigzag(['tasks', 'list', '--json'], env);
    const found = (json as { tasks: { name: string; outputType: string }[] }).tasks.map((task) => [
      task.name,
      task.outputType,
    ]);
    expect(Object.fromEntries(found)).toMatchObject({
      capitals: 'generate_until',
      'capitals-choice': 'multiple_choice',
    });
  });

  it('describes one for people', () => {
    const { stdout } = zigzag(['tasks', 'describe', 'capitals-choice'], env);
    expect(stdout).toMatch(/^task +capitals-choice/);
    expect(stdout).toMatch(/^metrics +acc, acc_norm$/m);
  });

  it('knows what was meant', () => {
    const { code, stderr } = zigzag(['tasks', 'describe', 'capitols'], env);
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('did you mean "capitals"?') });
  });
});
