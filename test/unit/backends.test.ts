import { describe, expect, it } from 'vitest';
import type { Backend } from '../../engine/backends/backend.js';
import { openOnnx } from '../../engine/backends/onnx.js';
import { openReference } from '../../engine/backends/reference.js';
import { float32Matrix } from '../../engine/memory/packed.js';
import type { ModelConfig } from '../../engine/model/config.js';
import { tinyModels } from '../support/tiny-models.js';

/** One wide, so that every product is one number. */
const config: ModelConfig = {
  ...tinyModels.llama!,
  hiddenSize: 1,
  bias: { qkv: false, output: false, ffn: true },
};
const matrix = (value: number) => float32Matrix(Float32Array.of(value), [1, 1]);

describe.each([
  ['reference', openReference],
  ['onnx', openOnnx],
])('the %s backend', (_, open: (config: ModelConfig, options: { threads: number }) => Promise<Backend>) => {
  it('adds the biases of a gated feed-forward to gate and up', async () => {
    const backend = await open(config, { threads: 1 });
    const parts = {
      gate: matrix(3),
      gateBias: Float32Array.of(0.5),
      up: matrix(-2),
      upBias: Float32Array.of(7),
    };
    const [result] = await backend.feed(Float32Array.of(0.25), parts);
    const gate = 0.25 * 3 + 0.5;
    expect(result).toBeCloseTo((gate / (1 + Math.exp(-gate))) * (0.25 * -2 + 7), 5);
    await backend.close();
  });
});
