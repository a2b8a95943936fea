/**
 * The least time that a run could have taken: its arithmetic at the speed of a product alone, or its bytes at the speed of
 * the disk alone, whichever is longer. What a run takes above that is not hidden, not fast, or not needed.
 */
import { windowOf } from './model/attention.js';
import type { ModelConfig } from './model/config.js';
import { expertOf, layerTensors, numSteps, type StagedTensor } from './model/layers.js';

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
 * Each row passes every matrix of the decoder, of experts those that it uses, and attends to itself and what it sees before
 * it; the vocabulary is multiplied only where a token is chosen.
 */
export function runFlops(config: ModelConfig, sequences: readonly SequenceLength[]): number {
  const { numLayers, numHeads, headDim } = config;
  const windows = Array.from({ length: numLayers }, (_, layer) => windowOf(config, layer));
  const layers = Array.from({ length: numSteps(config) }, (_, layer) => layerTensors(config, layer));
  const usedValues = (tensor: StagedTensor) => matrixValues(tensor) * usedShare(config, tensor);
  const rowValues = sum(layers.slice(1, -1).flat(), usedValues) + sum(layers[0]!, projectionValues);
  const headValues = sum(layers.at(-1)!, matrixValues);
  return sum(sequences, (sequence) => {
    const rows = neededRows(sequence);
    const attention = 2 * numHeads * headDim * sum(windows, (window) => seenPairs(rows, window));
    return 2 * (rows * rowValues + sequence.generatedTokens * headValues + attention);
  });
}

/** Rows seen by the rows of a sequence, all together. */
function seenPairs(rows: number, window = Number.POSITIVE_INFINITY): number {
  const full = Math.min(rows, window);
  return (full * (full + 1)) / 2 + (rows - full) * full;
}

/** Of the rows, those that use a tensor. */
function usedShare({ experts }: ModelConfig, { name }: StagedTensor): number {
  return experts && expertOf(name) !== undefined ? experts.perToken / experts.count : 1;
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
