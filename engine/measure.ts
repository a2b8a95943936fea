/** This machine's hardware profile, measured: what plans are made with. Takes two minutes, and this thread meanwhile. */
import { mkdir, statfs } from 'node:fs/promises';
import { openOnnx } from './backends/onnx.js';
import { collectAtOnce } from './collector.js';
import { EngineError } from './errors.js';
import {
  meanCurve,
  measureCacheAttention,
  measureCall,
  measureCurve,
  measureElements,
  measurePromptAttention,
  measureQuantization,
  probeConfig,
  type Timer,
} from './measure-compute.js';
import { measureDisk } from './measure-disk.js';
import type { PackedType } from './memory/packed.js';
import type { ModelConfig } from './model/config.js';
import type { LayerRates } from './policy/cost-model.js';
import {
  type Curve,
  type HardwareProfile,
  type MachineIdentity,
  type ProductRates,
  type Rehearsal,
  usableBytes,
} from './policy/hardware.js';
import { plays, rehearse } from './rehearsal.js';

export interface MeasureOptions {
  /** What it is that is measured. */
  readonly machine: MachineIdentity;
  readonly threads?: number;
  /** Of the disk that offload stores lie on. */
  readonly directory: string;
  /** Of each measurement, at least; longer ones are steadier. */
  readonly milliseconds?: number;
  /** Of a rehearsal; more are steadier. */
  readonly sequences?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number, what: string) => void;
}

const FORMS: readonly PackedType[] = ['float32', 'float16', 'int8', 'int4'];
/** A small and a middling model. */
const WIDTHS = [768, 2048];
const ROWS = [1, 8, 32, 128, 512];
const PROMPTS = [32, 128, 256];
/** Long enough for a median, short enough for a profile in two minutes. */
const MEASURE_MILLISECONDS = 300;
/** Over the products, with everything else between two of the same: a virtual machine has slow seconds. */
const PASSES = 2;
/** Of a rehearsal: some seconds. */
const SEQUENCES = 32;

/** A layer of one width, and what it is measured with. */
interface Probe {
  readonly config: ModelConfig;
  readonly timer: Timer;
}

/** One measurement, with its place in the progress. */
type Step = <Result>(what: string, act: () => Promise<Result>) => Promise<Result>;

/** @throws CANCELLED soon after the signal says so, and what `measureDisk` throws */
export async function measureHardware(options: MeasureOptions): Promise<HardwareProfile> {
  const { machine, directory, milliseconds = MEASURE_MILLISECONDS, signal, onProgress } = options;
  const threads = options.threads ?? machine.cores;
  await mkdir(directory, { recursive: true });
  const rehearsals = plays(options.sequences ?? SEQUENCES);
  const total = PASSES * FORMS.length * WIDTHS.length + 6 + rehearsals.length;
  let done = 0;
  const step: Step = async (what, act) => {
    if (signal?.aborted) throw new EngineError('CANCELLED', 'measuring was cancelled; nothing of it is kept');
    onProgress?.(done++, total, what);
    return act();
  };
  collectAtOnce();
  const disk = await step('disk', () => measureDisk(directory, 5 * milliseconds));
  const probes: Probe[] = [];
  try {
    for (const config of WIDTHS.map(probeConfig)) {
      probes.push({ config, timer: { backend: await openOnnx(config, { threads }), milliseconds } });
    }
    const { config, timer } = probes.at(-1)!;
    const elementsPerSecond = await step('between the products', () => measureElements(timer, config));
    const callSeconds = await step('calls', () => measureCall(timer));
    const products = await measureProducts(probes, { elementsPerSecond, callSeconds }, step);
    const prompt = await step('attention of prompts', () => measurePromptAttention(timer, config, PROMPTS));
    const cpu = await step('attention of the cache', () => measureCacheAttention(timer, config));
    const { bits8, bits4 } = await step('quantisation', async () => {
      return { bits8: await measureQuantization(timer, 8), bits4: await measureQuantization(timer, 4) };
    });
    const { bavail, bsize } = await statfs(directory);
    const { diskRead, diskWrite, buffered } = disk;
    const profile: HardwareProfile = {
      name: 'this machine',
      source: 'measured on it by zigzag doctor, through the engine itself',
      measured: new Date().toISOString(),
      machine,
      computeTier: 'cpu',
      capacityBytes: {
        gpu: 0,
        cpu: usableBytes(machine.memoryBytes),
        disk: usableBytes(bavail * bsize),
      },
      links: { diskRead, diskWrite },
      bufferedBytesPerSecond: buffered,
      products,
      quantizeValuesPerSecond: { int8: bits8.quantize, int4: bits4.quantize },
      dequantizeValuesPerSecond: { int8: bits8.dequantize, int4: bits4.dequantize },
      attention: { prompt, cacheBytesPerSecond: { cpu } },
      elementsPerSecond,
      callSeconds,
    };
    const rehearsed: Rehearsal[] = [];
    for (const play of rehearsals) {
      rehearsed.push(await step('the engine, whole', () => rehearse(profile, play, { threads, directory, signal })));
    }
    onProgress?.(total, total, 'done');
    return { ...profile, rehearsed };
  } finally {
    for (const { timer } of probes) await timer.backend.close();
  }
}

async function measureProducts(probes: readonly Probe[], beside: LayerRates, step: Step) {
  const measured = FORMS.flatMap((form) => probes.map((probe) => ({ form, ...probe, passes: [] as Curve[] })));
  for (let pass = 0; pass < PASSES; pass++) {
    for (const { form, config, timer, passes } of measured) {
      const request = { form, config, rows: ROWS };
      passes.push(await step(`products, ${form}`, () => measureCurve(timer, request, beside)));
    }
  }
  const products: Partial<Record<PackedType, ProductRates[]>> = {};
  for (const { form, config, passes } of measured) {
    products[form] = [...(products[form] ?? []), { width: config.hiddenSize, curve: meanCurve(passes) }];
  }
  return products;
}
