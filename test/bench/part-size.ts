/**
 * Products with matrices in parts of several sizes, in GFLOP/s: in which size a matrix is best multiplied, by form and rows.
 *
 *     node dist/test/bench/part-size.js
 *
 * Parts take turns, so that each comes from memory; sizes are interleaved row by row. Writes a Markdown table.
 */
import { openOnnx } from '../../engine/backends/onnx.js';
import { medianSeconds, probeConfig, randomPart, randomValues } from '../../engine/measure-compute.js';
import { groupedRows, type PackedType, packedRowBytes } from '../../engine/memory/packed.js';

const WIDTH = 2048;
const FORMS: readonly PackedType[] = ['float16', 'int8', 'int4'];
const SIZES_MB = [1, 2, 4, 8, 16, 32];
const ROWS = [16, 80, 144, 400];
/** More than caches hold. */
const TURNS_MB = 64;
const MILLISECONDS = 400;

const timer = { backend: await openOnnx(probeConfig(WIDTH), { threads: 2 }), milliseconds: MILLISECONDS };
process.stdout.write(`| weights | rows | ${SIZES_MB.map((size) => `${size} MB`).join(' | ')} |\n`);
process.stdout.write(`| --- | --- |${' --- |'.repeat(SIZES_MB.length)}\n`);
for (const form of FORMS) {
  const bySize = SIZES_MB.map((size) => {
    const outputs = groupedRows(size * 2 ** 20, packedRowBytes(form, WIDTH));
    return Array.from({ length: TURNS_MB / size }, () => randomPart(form, [outputs, WIDTH]));
  });
  for (const rows of ROWS) {
    const input = randomValues(rows * WIDTH);
    const rates: string[] = [];
    for (const parts of bySize) {
      let turn = 0;
      const seconds = await medianSeconds(timer, () => timer.backend.multiply(input, parts[turn++ % parts.length]!));
      rates.push(((2 * rows * parts[0]!.shape[0]! * WIDTH) / seconds / 1e9).toFixed(0));
    }
    process.stdout.write(`| ${form} | ${rows} | ${rates.join(' | ')} |\n`);
  }
}
await timer.backend.close();
