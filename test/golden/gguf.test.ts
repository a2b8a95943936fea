import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openEngine } from '../../engine/engine.js';
import { openModel } from '../../engine/model/open.js';
import type { GenerateResult } from '../../engine/requests.js';
import { convertToGguf } from '../support/gguf-models.js';
import { expectRecorded, FIXTURES, goldenRequest, readGolden } from '../support/golden.js';
import { ggufBytes, withDirectory } from '../support/model-files.js';

/**
 * Not Gemma 2: its files do not say by what scores are scaled, and the recorded model has a scale of its own. Not Mistral,
 * whose files do not say its window.
 */
const models = [
  'llama',
  'qwen2',
  'qwen3',
  'gpt_neox',
  'gpt_neox-sequential',
  'phi3',
  'phi3-partial-rotary',
  'mixtral',
  'qwen2_moe',
  'qwen3_moe',
];

describe('a GGUF file', () => {
  it.each(models)('of %s gives the recorded tokens and log-probabilities', (model) =>
    withDirectory(async (directory) => {
      const { metadata, tensors } = await convertToGguf(model);
      const path = join(directory, 'model.gguf');
      writeFileSync(path, ggufBytes(metadata, tensors));
      const engine = await openEngine({ model: path, backend: 'onnx', threads: 2 });
      const { prompts } = readGolden('models', model, 'golden.json');
      const results = await engine.run(prompts.map((prompt, i) => goldenRequest(String(i), prompt)));
      results.forEach((result, i) => {
        expectRecorded(result as GenerateResult, prompts[i]!);
      });
      await engine.close();
    }),
  );

  it('of Gemma 2 has the same weights and settings as the directory, but for the scale of scores', () =>
    withDirectory(async (directory) => {
      const { metadata, tensors } = await convertToGguf('gemma2');
      const path = join(directory, 'model.gguf');
      writeFileSync(path, ggufBytes(metadata, tensors));
      const [gguf, reference] = [await openModel(path), await openModel(join(FIXTURES, 'models', 'gemma2'))];
      const wanted = reference.weights.config;
      expect(gguf.weights.config).toEqual({
        ...wanted,
        norm: { ...wanted.norm, eps: Math.fround(wanted.norm.eps) },
        attention: { ...wanted.attention, scale: wanted.headDim ** -0.5 },
        bosTokenId: undefined,
        eosTokenIds: [],
      });
      for (const name of reference.weights.names) {
        expect(await gguf.weights.read(name), name).toEqual(await reference.weights.read(name));
      }
      await Promise.all([gguf, reference].map(({ weights }) => weights.close()));
    }));
});
