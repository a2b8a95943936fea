/**
 * Machines that plans can be made for without having them, by name, each with the sources of its figures.
 *
 * What is known to be reached on such a machine goes before what its data sheet promises; products take 80 % of the data
 * sheet's memory bandwidth below the rows at which arithmetic binds, and so does widening. Where nothing is known of the machine around a card,
 * memory, disk and cpu attention are those of the paper's machine.
 */
import { EngineError } from '../errors.js';
import { packedRowBytes } from '../memory/packed.js';
import { anyWidth, type HardwareProfile, rooflineCurve } from './hardware.js';

const GiB = 2 ** 30;
/** Of a data sheet's bandwidth that copies and products reach. */
const REACHED = 0.8;
const FLOAT16_BYTES = 2;

/** Values a second that a kernel widens to fp16 which reads and writes at a memory's speed. */
function widening(bytesPerSecond: number) {
  const rate = (form: 'int8' | 'int4') => (REACHED * bytesPerSecond) / (packedRowBytes(form, 1) + FLOAT16_BYTES);
  return { int8: rate('int8'), int4: rate('int4') };
}

/** FlexGen §6 and Table 24: what 1.5 TB of local NVMe reached. */
const paperDisk = {
  diskRead: { alone: 1.6e9, together: 0.8e9 },
  diskWrite: { alone: 1.3e9, together: 0.65e9 },
} as const;

const t4: HardwareProfile = {
  name: 't4-208gb',
  source:
    "NVIDIA T4, 208 GB and 1.5 TB: FlexGen's Table 1 and Table 24 (capacities, disk); rates of products, attention and PCIe as " +
    'its authors fitted them to their own runs (experimental/cost_model.py); bandwidth 320 GB/s from the data sheet',
  computeTier: 'gpu',
  capacityBytes: { gpu: 15 * GiB, cpu: 204 * GiB, disk: 1500 * GiB },
  links: {
    hostToDevice: { alone: 12.89 * GiB, together: 12 * GiB },
    deviceToHost: { alone: 12e9, together: 12e9 },
    ...paperDisk,
  },
  products: { float16: anyWidth(rooflineCurve(21.24e12, REACHED * 320e9, FLOAT16_BYTES)) },
  dequantizeValuesPerSecond: widening(320e9),
  attention: { prompt: [[1, 9.97e12]], cacheBytesPerSecond: { gpu: 79e9, cpu: 12.3e9 } },
  elementsPerSecond: (REACHED * 320e9) / (2 * FLOAT16_BYTES),
  callSeconds: 10e-6,
};

const rtx3090: HardwareProfile = {
  ...t4,
  name: 'rtx-3090',
  source:
    "NVIDIA RTX 3090, 24 GB: data sheet (71 TFLOP/s in fp16 with fp32 sums, 936 GB/s, PCIe 4.0 x16); 125 GB and 1 TB as in FlexGen's " +
    'Table 12; half of the peak for products and a quarter for attention of a prompt, disk and cpu attention as on the T4 machine: ' +
    'assumed',
  capacityBytes: { gpu: 23 * GiB, cpu: 120 * GiB, disk: 930 * GiB },
  links: {
    hostToDevice: { alone: 25e9, together: 22e9 },
    deviceToHost: { alone: 25e9, together: 22e9 },
    ...paperDisk,
  },
  products: { float16: anyWidth(rooflineCurve(35.5e12, REACHED * 936e9, FLOAT16_BYTES)) },
  dequantizeValuesPerSecond: widening(936e9),
  attention: { prompt: [[1, 17.7e12]], cacheBytesPerSecond: { gpu: REACHED * 936e9, cpu: 12.3e9 } },
  elementsPerSecond: (REACHED * 936e9) / (2 * FLOAT16_BYTES),
};

/** Pinned copies over PCIe 5.0 x16 as measured from Node by the CUDA driver: each way, and both ways at once. */
const pcie5 = {
  hostToDevice: { alone: 55.5e9, together: 50.7e9 },
  deviceToHost: { alone: 55.5e9, together: 50.7e9 },
} as const;

const h100: HardwareProfile = {
  ...t4,
  name: 'h100',
  source:
    'NVIDIA H100 SXM, 80 GB: data sheet (3.35 TB/s; 989 TFLOP/s dense in fp16, of which 650 reached, as cuBLAS reaches on an H200); ' +
    'PCIe copies as measured on an H200; memory, disk and cpu attention of the T4 machine: assumed',
  capacityBytes: { gpu: 79 * GiB, cpu: 204 * GiB, disk: 1500 * GiB },
  links: { ...pcie5, ...paperDisk },
  products: { float16: anyWidth(rooflineCurve(650e12, REACHED * 3.35e12, FLOAT16_BYTES)) },
  dequantizeValuesPerSecond: widening(3.35e12),
  attention: { prompt: [[1, 250e12]], cacheBytesPerSecond: { gpu: REACHED * 3.35e12, cpu: 12.3e9 } },
  elementsPerSecond: (REACHED * 3.35e12) / (2 * FLOAT16_BYTES),
  callSeconds: 6.4e-6,
};

const h200capped: HardwareProfile = {
  ...h100,
  name: 'h200-16gib',
  source:
    'NVIDIA H200 held to 16 GiB: measured from Node by the CUDA driver (pinned copies 55.5 GB/s each way and 101.5 GB/s both ways, ' +
    '6.4 us a launch, cuBLAS at 650 TFLOP/s); 4.8 TB/s from the data sheet; memory, disk and cpu attention of the T4 machine: assumed',
  capacityBytes: { gpu: 16 * GiB, cpu: 204 * GiB, disk: 1500 * GiB },
  products: { float16: anyWidth(rooflineCurve(650e12, REACHED * 4.8e12, FLOAT16_BYTES)) },
  dequantizeValuesPerSecond: widening(4.8e12),
  attention: { prompt: [[1, 250e12]], cacheBytesPerSecond: { gpu: REACHED * 4.8e12, cpu: 12.3e9 } },
  elementsPerSecond: (REACHED * 4.8e12) / (2 * FLOAT16_BYTES),
};

/** In the order in which they are listed to people. */
export const hardwareProfiles: ReadonlyMap<string, HardwareProfile> = new Map(
  [t4, rtx3090, h100, h200capped].map((profile) => [profile.name, profile]),
);

/** @throws BAD_INPUT, with the names there are. */
export function namedHardware(name: string): HardwareProfile {
  const profile = hardwareProfiles.get(name);
  if (profile) return profile;
  const known = [...hardwareProfiles.keys()];
  throw new EngineError(
    'BAD_INPUT',
    `no machine is called ${JSON.stringify(name)}; name one of ${known.join(', ')}, or a file that zigzag doctor wrote`,
    { found: name, known },
  );
}
