import { describe, expect, it } from 'vitest';
import { namedShape, namedShapes, numParameters } from '../../engine/model/named-shapes.js';

describe('a named shape', () => {
  // Counts as the models' publishers give them with their safetensors files.
  it.each([
    ['opt-125m', 125_239_296],
    ['opt-1.3b', 1_315_758_080],
    ['opt-6.7b', 6_658_473_984],
    ['llama-1.1b', 1_100_048_384],
    ['llama-2-7b', 6_738_415_616],
    ['llama-2-13b', 13_015_864_320],
    ['llama-2-70b', 68_976_648_192],
    ['llama-3-8b', 8_030_261_248],
    ['llama-3-70b', 70_553_706_496],
    ['qwen3-4b', 4_022_468_096],
    ['qwen3-8b', 8_190_735_360],
    ['qwen3-14b', 14_768_307_200],
    ['qwen3-32b', 32_762_123_264],
    ['qwen3-30b-a3b', 30_532_122_624],
  ])('%s has as many parameters as the published model', (name, parameters) => {
    expect(numParameters(namedShape(name))).toBe(parameters);
  });

  it.each([...namedShapes])('%s is about as large as its name says', (name, config) => {
    const [, digits, unit] = /-([\d.]+)([mb])(?:-a3b)?$/.exec(name)!;
    const billions = Number(digits) * (unit === 'm' ? 1e-3 : 1);
    expect(numParameters(config) / 1e9 / billions).toBeGreaterThan(0.96);
    expect(numParameters(config) / 1e9 / billions).toBeLessThan(1.06);
    expect(config.numHeads % config.numKvHeads).toBe(0);
  });

  it('that does not exist is answered with those that do', () => {
    expect(() => namedShape('opt-350m')).toThrow(
      'no model shape is called "opt-350m"; choose among opt-125m, opt-1.3b',
    );
  });
});
