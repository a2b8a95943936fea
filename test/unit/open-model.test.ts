import { createHash } from 'node:crypto';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EngineError } from '../../engine/errors.js';
import type { OpenModel } from '../../engine/model/open.js';
import { openModel } from '../../engine/model/open.js';
import type { WeightSource } from '../../engine/model/weights.js';
import { FIXTURES } from '../support/golden.js';
import type { NewTensor, Typed } from '../support/model-files.js';
import { floats, ggufBytes, withDirectory } from '../support/model-files.js';

const stories = join(FIXTURES, 'stories260k');

describe('a Hugging Face directory', () => {
  it.each([
    [
      'llama',
      'untied and sharded',
      ['head.tokens.weight', 'layers.2.gate.weight', 'final.norm.weight'],
      ['layers.0.query.bias', 'embed.positions.weight'],
    ],
    ['llama-tied-rope3', 'tied', ['embed.tokens.weight'], ['head.tokens.weight']],
    [
      'opt',
      'with positions and biases',
      ['embed.positions.weight', 'layers.0.key.bias', 'layers.1.ffnNorm.bias', 'final.norm.bias'],
      ['head.tokens.weight', 'layers.0.gate.weight', 'embed.project.weight'],
    ],
    [
      'opt-350m-style',
      'with projections and without a final norm',
      ['embed.project.weight', 'head.project.weight'],
      ['final.norm.weight'],
    ],
  ])('%s opens, %s', (name, _, present, absent) =>
    withModel(join(FIXTURES, 'models', name), async ({ weights, format, tokenizer, chatTemplate }) => {
      expect({ format, tokenizer, chatTemplate }).toEqual({
        format: 'safetensors',
        tokenizer: undefined,
        chatTemplate: undefined,
      });
      expect(weights.names).toEqual(expect.arrayContaining(present));
      for (const missing of absent) expect(weights.names).not.toContain(missing);
      for (const tensor of weights.names) {
        expect((await weights.read(tensor)).length).toBe(
          weights.shape(tensor).reduce((product, size) => product * size, 1),
        );
      }
    }),
  );

  it('reads any rows into a given array, equal to those of the whole', () =>
    withModel(join(FIXTURES, 'models', 'llama'), async ({ weights }) => {
      const whole = await weights.read('layers.1.down.weight');
      const [, columns] = weights.shape('layers.1.down.weight') as [number, number];
      const into = new Float32Array(5 * columns).fill(9);
      expect(await weights.read('layers.1.down.weight', 7, 10, into)).toBe(into);
      expect(into.subarray(0, 3 * columns)).toEqual(whole.subarray(7 * columns, 10 * columns));
      expect(into.subarray(3 * columns)).toEqual(new Float32Array(2 * columns).fill(9));
      await expect(weights.read('layers.1.down.weight', 60, 65)).rejects.toThrow(RangeError);
      await expect(weights.read('layers.1.down.weight', 0, 3, new Float32Array(2 * columns))).rejects.toThrow(
        /needed room for 336 values, found 224/,
      );
      expect(() => weights.shape('layers.9.down.weight')).toThrow(/no tensor layers\.9\.down\.weight/);
    }));

  it('finds tensors whose names lack the usual prefix', () =>
    withCopy('models/llama', async (directory) => {
      const header = join(directory, 'model.safetensors.index.json');
      const { weight_map: map } = JSON.parse(readFileSync(header, 'utf8')) as { weight_map: Record<string, string> };
      for (const shard of new Set(Object.values(map))) {
        const path = join(directory, shard);
        // Spaces keep the header's length, so only the names change.
        writeFileSync(
          path,
          Buffer.from(readFileSync(path, 'latin1').replaceAll(/"model\.([^"]*)"/g, '"$1"      '), 'latin1'),
        );
      }
      writeFileSync(header, readFileSync(header, 'utf8').replaceAll(/"model\.(?!safetensors)([^"]*)":/g, '"$1":'));
      await withModel(directory, async ({ weights }) => expect(weights.names).toContain('layers.2.value.weight'));
    }));

  it.each([
    [
      'layers that the file lacks',
      { num_hidden_layers: 9 },
      /tensor model\.layers\.5\.input_layernorm\.weight \(layers\.5\.attentionNorm\.weight\): needed \(64\), found no tensor of that name/,
    ],
    ['any number of layers', { num_hidden_layers: 2 ** 50 }, /layers\.5\.attentionNorm\.weight/],
    [
      'another width',
      { intermediate_size: 170 },
      /tensor model\.layers\.0\.mlp\.gate_proj\.weight .*needed \(170, 64\), found \(172, 64\)/,
    ],
    [
      'a head of its own',
      { tie_word_embeddings: false },
      /tensor lm_head\.weight \(head\.tokens\.weight\): needed \(512, 64\), found no tensor/,
    ],
  ])('is refused where its configuration asks for %s', (_, change, message) =>
    withCopy('stories260k', async (directory) => {
      const config = join(directory, 'config.json');
      writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), ...change }));
      await expect(openModel(directory)).rejects.toMatchObject({
        code: 'BAD_WEIGHTS',
        message: expect.stringMatching(message),
      });
    }),
  );

  it('is refused with the name of a tensor whose type cannot be read', () =>
    withCopy('stories260k', async (directory) => {
      const path = join(directory, 'model.safetensors');
      const bytes = readFileSync(path, 'latin1').replace(/("model\.norm\.weight": ?\{"dtype": ?)"F32"/, '$1"I32"');
      writeFileSync(path, Buffer.from(bytes, 'latin1'));
      await expect(openModel(directory)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/model\.norm\.weight has type I32/),
      });
    }));

  it.each([
    ['nothing at all', (directory: string) => rmSync(directory, { recursive: true }), 'BAD_INPUT', /no such model/],
    [
      'an empty directory',
      (directory: string) => {
        rmSync(directory, { recursive: true });
        mkdirSync(directory);
      },
      'BAD_INPUT',
      /no config\.json and no GGUF file/,
    ],
    [
      'a configuration that is not JSON',
      (directory: string) => writeFileSync(join(directory, 'config.json'), '{'),
      'BAD_WEIGHTS',
      /config\.json: not JSON/,
    ],
    [
      'a configuration that is no object',
      (directory: string) => writeFileSync(join(directory, 'config.json'), '[]'),
      'BAD_WEIGHTS',
      /config\.json: needed a JSON object/,
    ],
    [
      'no weights',
      (directory: string) => rmSync(join(directory, 'model.safetensors')),
      'UNSUPPORTED',
      /needed model\.safetensors/,
    ],
    [
      'a damaged tokenizer',
      (directory: string) => writeFileSync(join(directory, 'tokenizer.json'), '{"model": {}}'),
      'BAD_WEIGHTS',
      /tokenizer\.json: no tokenizer can be built from it/,
    ],
  ])('is refused where there is %s', (_, damage, code, message) =>
    withCopy('stories260k', async (directory) => {
      damage(directory);
      await expect(openModel(directory)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    }),
  );

  it.each([
    ['a text', { chat_template: 'one' }, undefined, 'one'],
    [
      'a list of named ones',
      {
        chat_template: [
          { name: 'tool_use', template: 'two' },
          { name: 'default', template: 'three' },
        ],
      },
      undefined,
      'three',
    ],
    ['a file of its own, which wins', { chat_template: 'one' }, 'four', 'four'],
    ['none', {}, undefined, undefined],
  ])('gives its chat template: %s', (_, settings, file, expected) =>
    withCopy('stories260k', async (directory) => {
      writeFileSync(
        join(directory, 'tokenizer_config.json'),
        JSON.stringify({ bos_token: { content: '<s>' }, eos_token: '</s>', ...settings }),
      );
      if (file !== undefined) writeFileSync(join(directory, 'chat_template.jinja'), file);
      await withModel(directory, async ({ chatTemplate, tokenizer }) => {
        expect(chatTemplate).toBe(expected);
        expect(tokenizer).toMatchObject({ bosToken: '<s>', eosToken: '</s>' });
      });
    }),
  );
});

describe('a GGUF file of a Llama model', () => {
  it('gives the weights of the Hugging Face directory it was made from, whole and by rows', () =>
    withDirectory(async (directory) => {
      const reference = await openModel(join(FIXTURES, 'models', 'llama'));
      const path = join(directory, 'converted.gguf');
      writeFileSync(path, await convert(reference.weights));
      await withModel(path, async ({ weights, format, tokenizer }) => {
        expect({ format, tokenizer }).toEqual({ format: 'gguf', tokenizer: undefined });
        expect(weights.config).toEqual({
          ...reference.weights.config,
          norm: { ...weights.config.norm },
          bosTokenId: undefined,
          eosTokenIds: [],
        });
        expect(weights.names).toEqual(reference.weights.names);
        for (const name of weights.names) {
          expect(await weights.read(name), name).toEqual(await reference.weights.read(name));
          expect(await weights.read(name, 5, 21), name).toEqual(await reference.weights.read(name, 5, 21));
        }
      });
      await reference.weights.close();
    }));

  it('is found as the only one of a directory, and asked for where there are several', () =>
    withDirectory(async (directory) => {
      const reference = await openModel(join(FIXTURES, 'models', 'llama'));
      const bytes = await convert(reference.weights);
      await reference.weights.close();
      writeFileSync(join(directory, 'a.gguf'), bytes);
      await withModel(directory, async ({ format }) => expect(format).toBe('gguf'));
      writeFileSync(join(directory, 'b.gguf'), bytes);
      await expect(openModel(directory)).rejects.toMatchObject({
        code: 'BAD_INPUT',
        message: expect.stringMatching(/2 GGUF files; name one of a\.gguf, b\.gguf/),
      });
    }));
});

describe('identity', () => {
  it.each(['model.safetensors', 'config.json', 'tokenizer.json', 'generation_config.json'])(
    'changes with one byte of %s',
    (name) =>
      withCopy('stories260k', async (directory) => {
        const path = join(directory, name);
        const before = await identityOf(directory);
        // A space after JSON, and a byte of the last tensor: both leave the model valid.
        if (name.endsWith('.json')) appendFileSync(path, ' ');
        else {
          const bytes = readFileSync(path);
          bytes[bytes.length - 1]! ^= 1;
          writeFileSync(path, bytes);
        }
        expect(await identityOf(directory)).not.toBe(before);
      }),
  );

  it('does not depend on where the model lies', () =>
    withCopy('stories260k', async (directory) => expect(await identityOf(directory)).toBe(await identityOf(stories))));

  it('of one file is its SHA-256', () =>
    withDirectory(async (directory) => {
      const reference = await openModel(join(FIXTURES, 'models', 'llama'));
      const bytes = await convert(reference.weights);
      await reference.weights.close();
      writeFileSync(join(directory, 'a.gguf'), bytes);
      expect(await identityOf(directory)).toBe(createHash('sha256').update(bytes).digest('hex'));
    }));

  it('is remembered until the file changes', () =>
    withCopy('stories260k', async (directory) => {
      const cacheDir = join(directory, 'cache', 'deep');
      const first = await identityOf(directory, cacheDir);
      const cachePath = join(cacheDir, 'model-sha256.json');
      expect(existsSync(cachePath)).toBe(true);
      // A forged sum shows whether the file was read again.
      writeFileSync(cachePath, readFileSync(cachePath, 'utf8').replaceAll(/"[0-9a-f]{64}"/g, `"${'0'.repeat(64)}"`));
      const forged = await identityOf(directory, cacheDir);
      expect(forged).not.toBe(first);
      for (const name of [
        'model.safetensors',
        'config.json',
        'tokenizer.json',
        'tokenizer_config.json',
        'generation_config.json',
      ]) {
        utimesSync(join(directory, name), 1, 1);
      }
      expect(await identityOf(directory, cacheDir)).toBe(first);
    }));

  it('is computed where the cache is damaged', () =>
    withCopy('stories260k', async (directory) => {
      mkdirSync(join(directory, 'cache'));
      writeFileSync(join(directory, 'cache', 'model-sha256.json'), '{"a');
      expect(await identityOf(directory, join(directory, 'cache'))).toBe(await identityOf(stories));
    }));

  it('says which directory to make writable', () =>
    withCopy('stories260k', async (directory) => {
      const cacheDir = join(directory, 'config.json');
      await expect(identityOf(directory, cacheDir)).rejects.toThrow(EngineError);
      await expect(identityOf(directory, cacheDir)).rejects.toThrow(`make ${cacheDir} writable`);
    }));
});

/** As llama.cpp's converter writes it: of each head of queries and keys, row i is followed by row i + headDim / 2. */
async function convert(weights: WeightSource): Promise<Buffer> {
  const { config } = weights;
  const names: Readonly<Record<string, string>> = {
    'embed.tokens': 'token_embd',
    'final.norm': 'output_norm',
    'head.tokens': 'output',
    attentionNorm: 'attn_norm',
    query: 'attn_q',
    key: 'attn_k',
    value: 'attn_v',
    output: 'attn_output',
    ffnNorm: 'ffn_norm',
    gate: 'ffn_gate',
    up: 'ffn_up',
    down: 'ffn_down',
  };
  const tensors: NewTensor[] = [];
  for (const name of weights.names) {
    const [, layer, part] = /^layers\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
    const shape = weights.shape(name);
    const values = await weights.read(name);
    const swaps = part === 'query' || part === 'key';
    const rows = swaps ? interleave(shape[0]!, config.headDim) : undefined;
    const bytes =
      rows === undefined
        ? floats(...values)
        : floats(...rows.flatMap((row) => [...values.subarray(row * shape[1]!, (row + 1) * shape[1]!)]));
    const fileName = part === undefined ? names[name.replace(/\.weight$/, '')]! : `blk.${layer}.${names[part]}`;
    tensors.push({ name: `${fileName}.weight`, type: 0, shape, bytes });
  }
  const metadata: Record<string, Typed> = {
    'general.architecture': ['text', 'llama'],
    'llama.block_count': ['u32', config.numLayers],
    'llama.context_length': ['u32', config.maxPositions],
    'llama.embedding_length': ['u32', config.hiddenSize],
    'llama.feed_forward_length': ['u32', config.ffnSize],
    'llama.attention.head_count': ['u32', config.numHeads],
    'llama.attention.head_count_kv': ['u32', config.numKvHeads],
    'llama.attention.layer_norm_rms_epsilon': ['f32', config.norm.eps],
    'llama.rope.freq_base': ['f32', 10000],
  };
  return ggufBytes(metadata, tensors);
}

function interleave(rows: number, headDim: number): number[] {
  const order: number[] = [];
  for (let head = 0; head < rows; head += headDim) {
    for (let i = 0; i < headDim / 2; i++) order.push(head + i, head + i + headDim / 2);
  }
  return order;
}

async function identityOf(path: string, cacheDir?: string): Promise<string> {
  const { weights } = await openModel(path, cacheDir === undefined ? {} : { cacheDir });
  await weights.close();
  return weights.identity;
}

async function withModel(path: string, use: (model: OpenModel) => Promise<void>): Promise<void> {
  const model = await openModel(path);
  await use(model).finally(() => model.weights.close());
}

function withCopy(fixture: string, use: (directory: string) => Promise<void>): Promise<void> {
  return withDirectory((directory) => {
    const copy = join(directory, 'model');
    cpSync(join(FIXTURES, fixture), copy, { recursive: true });
    return use(copy);
  });
}
