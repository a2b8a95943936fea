/**
 * What checkpoints cost, and what they are worth, measured in turn.
 *
 *     node dist/test/bench/checkpoint.js cost|resume [--rounds N] [--model PATH] [--sequences N] [--prompt-len N] [--gen-len N]
 *
 * `cost`: the same work with checkpoints and without. `resume`: a run that is killed when half of its tokens are generated;
 * the time until another is where it was, from its checkpoint and from the beginning. Nothing else may run meanwhile. Ends
 * with exit code 1 where a target is missed.
 */
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeRequests } from '../../cli/bench-work.js';
import type { CheckpointStatus } from '../../engine/checkpoint.js';
import { openEngineHost } from '../../engine/host.js';
import type { Engine, EngineProgress, EngineRequest, RunOptions } from '../../engine/requests.js';
import { smollm2Path } from '../support/smollm2.js';
import { median, print } from './checks.js';

/** Of the time. */
const COST_TARGET = 0.02;
const RESUME_TARGET = 3;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '2' },
    model: { type: 'string', default: smollm2Path },
    sequences: { type: 'string', default: '64' },
    'prompt-len': { type: 'string', default: '128' },
    'gen-len': { type: 'string', default: '64' },
  },
});
const cases: Readonly<Record<string, (bench: Bench) => Promise<boolean>>> = { cost, resume };
const act = cases[positionals[0] ?? ''];
if (!act) {
  process.stderr.write(`Name a case: ${Object.keys(cases).join(' or ')}\n`);
  process.exit(2);
}

interface Bench {
  readonly engine: Engine;
  readonly requests: readonly EngineRequest[];
  readonly rounds: number;
  /** Removed at the end. */
  readonly scratch: string;
}

const scratch = mkdtempSync(join(tmpdir(), 'zigzag-bench-'));
const engine = await openEngineHost({ model: values.model, backend: 'onnx' });
try {
  const work = { promptLen: Number(values['prompt-len']), genLen: Number(values['gen-len']) };
  const requests = await makeRequests(
    { config: engine.info.config, tokenizer: undefined },
    { ...work, numSequences: Number(values.sequences) },
  );
  print(`${values.sequences} sequences, prompt ${work.promptLen}, ${work.genLen} new tokens, ${values.model}`);
  // The first run makes the sessions and warms the caches.
  await engine.run(requests.slice(0, 4));
  process.exitCode = (await act({ engine, requests, rounds: Number(values.rounds), scratch })) ? 0 : 1;
} finally {
  await engine.close();
  rmSync(scratch, { recursive: true });
}

async function cost({ engine, requests, rounds, scratch }: Bench): Promise<boolean> {
  const measured = { without: [] as Timed[], with: [] as Timed[] };
  for (let round = 1; round <= rounds; round++) {
    // The order turns, so that what drifts weighs on both alike.
    const sides = round % 2 === 0 ? (['with', 'without'] as const) : (['without', 'with'] as const);
    for (const side of sides) {
      const checkpoint = { directory: mkdtempSync(join(scratch, 'cost-')), fencingToken: 1 };
      const one = await timed(engine, requests, side === 'with' ? { checkpoint } : {});
      measured[side].push(one);
      const written = one.status ? `, ${one.status.written} checkpoints` : '';
      print(`round ${round}, ${side}: ${one.seconds.toFixed(2)} s, ${one.cpuSeconds.toFixed(2)} s of CPU${written}`);
    }
  }
  const share = (of: (one: Timed) => number) => median(measured.with.map(of)) / median(measured.without.map(of)) - 1;
  const [time, cpu] = [share(({ seconds }) => seconds), share(({ cpuSeconds }) => cpuSeconds)];
  print(`cost: ${(100 * time).toFixed(2)} % of the time, ${(100 * cpu).toFixed(2)} % of the CPU time, by medians`);
  return time <= COST_TARGET;
}

async function resume({ engine, requests, rounds, scratch }: Bench): Promise<boolean> {
  const tokens = requests.reduce((sum, request) => sum + (request.kind === 'generate' ? request.maxNewTokens : 0), 0);
  const ratios: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    const killed = await killedAt(engine, requests, tokens / 2, scratch);
    const resumed = await timed(engine, requests, { checkpoint: { directory: killed.directory, fencingToken: 2 } });
    const { recovery } = resumed.status!;
    if (!recovery) throw new Error('nothing was recovered');
    // What was lost is computed again before the run is where it was.
    const back = resumed.secondsUntil(recovery.generatedTokensAgain);
    const ratio = killed.seconds / back;
    ratios.push(ratio);
    print(
      `round ${round}: where it was after ${killed.seconds.toFixed(2)} s from the beginning, after ${back.toFixed(2)} s ` +
        `from its checkpoint (${ratio.toFixed(1)}x), at the end after ${resumed.seconds.toFixed(2)} s; ` +
        `${recovery.tokensKept} tokens kept, ${recovery.generatedTokensAgain} computed again, ` +
        `keys and values of ${recovery.positionsRead} positions read, of ${recovery.positionsRebuilt} computed anew`,
    );
  }
  print(`resume: ${median(ratios).toFixed(1)}x as fast as the beginning`);
  return median(ratios) >= RESUME_TARGET;
}

/** Seconds until so many tokens are generated, and what its checkpoints hold by then. */
async function killedAt(engine: Engine, requests: readonly EngineRequest[], tokens: number, scratch: string) {
  const directory = mkdtempSync(join(scratch, 'run-'));
  const kept = `${directory}-killed`;
  const start = performance.now();
  let seconds: number | undefined;
  await engine
    .run(requests, {
      checkpoint: { directory, fencingToken: 1 },
      onProgress: ({ generatedTokens }) => {
        if (generatedTokens < tokens || seconds !== undefined) return;
        seconds = (performance.now() - start) / 1000;
        // Taken over by another owner, it writes nothing more, as if it were dead.
        renameSync(directory, kept);
      },
    })
    .catch((error) => {
      if (error.code !== 'CANCELLED') throw error;
    });
  return { directory: kept, seconds: seconds! };
}

type Timed = Awaited<ReturnType<typeof timed>>;

async function timed(engine: Engine, requests: readonly EngineRequest[], options: RunOptions = {}) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const reached: { readonly seconds: number; readonly progress: EngineProgress }[] = [];
  const now = () => (performance.now() - start) / 1000;
  await engine.run(requests, {
    ...options,
    onProgress: (progress) => void reached.push({ seconds: now(), progress }),
  });
  const status: CheckpointStatus | undefined = reached.at(-1)?.progress.checkpoint;
  const { user, system } = process.cpuUsage(cpu);
  return {
    seconds: now(),
    cpuSeconds: (user + system) / 1e6,
    status,
    /** After at least one sweep, in which every sequence that came back goes on. */
    secondsUntil: (tokens: number) =>
      reached.find(({ progress }) => progress.generatedTokens > Math.max(0, tokens - 1))!.seconds,
  };
}
