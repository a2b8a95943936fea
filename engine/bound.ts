/**
 * The least time that a run could have taken: its arithmetic at the speed of a product alone, or its bytes at the speed of
 * the disk alone, whichever is longer. What a run takes above that is not hidden, not fast, or not needed.
 */
import type { ModelConfig } from './model/config.js';
import { layerTensors, numSteps, type StagedTensor } from './model/layers.js';

/** One sequence of a run, as it ended. */
export interface SequenceLength {
  readonly promptTokens: number;
  readonly generatedTokens: number;
}

/** What this machine reaches when it does nothing else. */
export interface MachineRates {
  readonly flopsPerSecond: number;
  readonly diskBytesPerSecond: number;
}

export interface Bound extends MachineRates {
  readonly flops: number;
  readonly bytes: number;
  readonly computeSeconds: number;
  readonly ioSeconds: number;
  readonly seconds: number;
}

/** @param bytes read and written, both at the rate of reading */
export function boundOf(flops: number, bytes: number, rates: MachineRates): Bound {
  const computeSeconds = flops / rates.flopsPerSecond;
  const ioSeconds = bytes === 0 ? 0 : bytes / rates.diskBytesPerSecond;
  return { ...rates, flops, bytes, computeSeconds, ioSeconds, seconds: Math.max(computeSeconds, ioSeconds) };
}

/**
 * The share of its I/O time that a run did not wait for: 1 where nothing had to be moved.
 *
 * @param ioSeconds that moving would take alone
 */
export function hiddenFraction(waitSeconds: number, ioSeconds: number): number {
  return ioSeconds === 0 ? 1 : Math.min(1, Math.max(0, 1 - waitSeconds / ioSeconds));
}

/** Rows that a sequence needs: the last token is chosen, and never computed with. */
export function neededRows({ promptTokens, generatedTokens }: SequenceLength): number {
  return promptTokens + Math.max(0, generatedTokens - 1);
}

/**
 * Multiplications and additions of a run's products, those of attention included; norms and the like are left out.
 *
 * Each row passes every matrix of the decoder and attends to itself and all before it; the vocabulary is multiplied only
 * where a token is chosen.
 */
export function runFlops(config: ModelConfig, sequences: readonly SequenceLength[]): number {
  const { numLayers, numHeads, headDim } = config;
  const layers = Array.from({ length: numSteps(config) }, (_, layer) => layerTensors(config, layer));
  const rowValues = sum(layers.slice(1, -1).flat(), matrixValues) + sum(layers[0]!, projectionValues);
  const headValues = sum(layers.at(-1)!, matrixValues);
  return sum(sequences, (sequence) => {
    const rows = neededRows(sequence);
    const pairs = (rows * (rows + 1)) / 2;
    const attention = 2 * numLayers * numHeads * headDim * pairs;
    return 2 * (rows * rowValues + sequence.generatedTokens * headValues + attention);
  });
}

function matrixValues({ shape }: StagedTensor): number {
  return shape.length === 2 ? shape[0]! * shape[1]! : 0;
}

/** Of the embedding layer, whose tables are only looked up. */
function projectionValues(tensor: StagedTensor): number {
  return tensor.name === 'project' ? matrixValues(tensor) : 0;
}

function sum<Item>(items: readonly Item[], valuesOf: (item: Item) => number): number {
  return items.reduce((total, item) => total + valuesOf(item), 0);
}
