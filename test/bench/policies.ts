/**
 * The tables of docs/policies.md, as Markdown.
 *
 *     node dist/test/bench/policies.js paper       FlexGen's policies beside ours, in FlexGen's own model
 *     node dist/test/bench/policies.js machines    our plans for the machines that are shipped
 */
import type { Fractions } from '../../engine/memory/placement.js';
import { namedShape } from '../../engine/model/named-shapes.js';
import { openSolver } from '../../engine/policy/highs.js';
import { type PaperCase, paperProblem, paperT4WithItsDisk, paperThroughput } from '../../engine/policy/paper-model.js';
import { searchPaper } from '../../engine/policy/paper-search.js';
import { type PlacedFractions, sweepSeconds } from '../../engine/policy/placement-program.js';
import { namedHardware } from '../../engine/policy/profiles.js';
import { searchPolicy } from '../../engine/policy/search.js';

const GEN_LEN = 32;
const solve = await openSolver();

/** Table 15: GPU batch, GPU batches, and percentages of weights, KV cache and activations on gpu and cpu. Table 2: token/s. */
const paperPolicies = [
  ['opt-6.7b', 512, [2, 1], [100, 0, 100, 0, 100, 0], 25.26],
  ['opt-6.7b', 1024, [1, 1], [100, 0, 100, 0, 100, 0], 13.72],
  ['opt-30b', 512, [48, 3], [20, 80, 0, 100, 0, 100], 7.32],
  ['opt-30b', 1024, [20, 4], [4, 96, 0, 100, 0, 100], 3.5],
  ['opt-175b', 512, [32, 8], [0, 50, 0, 0, 0, 100], 0.69],
  ['opt-175b', 1024, [12, 12], [0, 50, 0, 0, 0, 100], 0.35],
] as const;

const tables: Readonly<Record<string, () => string[][]>> = { paper, machines };
const table = tables[process.argv[2] ?? ''];
if (!table) {
  process.stderr.write(`Name a table: ${Object.keys(tables).join(', ')}\n`);
  process.exit(2);
}
process.stdout.write(
  `${table()
    .map((row) => `| ${row.join(' | ')} |\n`)
    .join('')}`,
);

function paper(): string[][] {
  const heading = [
    'Model',
    'Prompt',
    "FlexGen's policy",
    'predicted',
    'measured',
    'searched policy',
    'predicted',
    'gain',
  ];
  const rows = paperPolicies.map(([model, promptLen, [gpuBatchSize, numGpuBatches], percent, measured]) => {
    const study: PaperCase = {
      config: namedShape(model),
      machine: paperT4WithItsDisk,
      form: 'paper',
      promptLen,
      genLen: GEN_LEN,
    };
    const block = { gpuBatchSize, numGpuBatches };
    const seconds = sweepSeconds(paperProblem(study, block), fractionsOf(percent));
    const theirs = paperThroughput(study, block, seconds);
    const found = searchPaper(study, solve)!;
    return [
      model,
      `${promptLen}`,
      `${gpuBatchSize} x ${numGpuBatches}, ${percent.join(',')}`,
      digits(theirs),
      `${measured}`,
      `${found.gpuBatchSize} x ${found.numGpuBatches}, ${percentOf(found.fractions)}`,
      digits(found.throughput),
      `${(100 * (found.throughput / theirs - 1)).toFixed(1)} %`,
    ];
  });
  return [heading, heading.map(() => '---'), ...rows];
}

function machines(): string[][] {
  const heading = [
    'Machine',
    'Model',
    'Prompt',
    'policy',
    'token/s',
    'bound by',
    'with 4-bit weights and KV cache',
    'search s',
  ];
  const cases = ['t4-208gb', 'rtx-3090', 'h100', 'h200-16gib'].flatMap((machine) =>
    paperPolicies.map(([model, promptLen]) => ({ machine, model, promptLen })),
  );
  const rows = cases.map(({ machine, model, promptLen }) => {
    const profile = namedHardware(machine);
    const request = {
      config: namedShape(model),
      profile,
      workload: { numSequences: 1024, promptTokens: promptLen, newTokens: GEN_LEN, contextTokens: promptLen + GEN_LEN },
      overlap: true,
      capacityBytes: profile.capacityBytes,
      weightTypes: ['float16'],
      kvBits: [16],
      schedules: ['continuous', 'block'],
    } as const;
    const { best, searchSeconds } = searchPolicy(request, solve);
    const packed = searchPolicy({ ...request, weightTypes: ['int4'], kvBits: [4] }, solve).best;
    const { choice, fractions, predicted } = best;
    return [
      machine,
      model,
      `${promptLen}`,
      `${choice.gpuBatchSize} x ${choice.numGpuBatches}, ${percentOf(fractions)}, ${choice.schedule}`,
      digits(predicted.generationThroughput),
      predicted.bound,
      digits(packed.predicted.generationThroughput),
      searchSeconds.toFixed(1),
    ];
  });
  return [heading, heading.map(() => '---'), ...rows];
}

function fractionsOf([wg, wc, cg, cc, hg, hc]: readonly [
  number,
  number,
  number,
  number,
  number,
  number,
]): PlacedFractions {
  const on = (gpu: number, cpu: number): Fractions => ({
    gpu: gpu / 100,
    cpu: cpu / 100,
    disk: (100 - gpu - cpu) / 100,
  });
  return { weights: on(wg, wc), kv: on(cg, cc), activations: on(hg, hc) };
}

/** As FlexGen's --percent, in whole per cent. */
function percentOf({ weights, kv, activations }: PlacedFractions): string {
  return [weights, kv, activations]
    .flatMap(({ gpu, cpu }) => [gpu, cpu].map((share) => Math.round(100 * share)))
    .join(',');
}

function digits(value: number): string {
  return value < 100 ? value.toPrecision(3) : value.toFixed(0);
}
