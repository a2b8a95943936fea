/** A measured machine as people read it. */
import type { PackedType } from '../engine/memory/packed.js';
import type { HardwareProfile, LinkRate, Rehearsal } from '../engine/policy/hardware.js';
import { formatBytes, formatTable } from './terminal.js';

export function describeHardware(profile: HardwareProfile): string {
  const { links, bufferedBytesPerSecond: buffered, attention, products, measured } = profile;
  const rows = (Object.values(products)[0] ?? [])[0]?.curve.map(([count]) => `${count}`) ?? [];
  const forms = (Object.entries(products) as [PackedType, NonNullable<(typeof products)[PackedType]>][]).flatMap(
    ([form, rates]) =>
      rates.map(({ width, curve }) => [form, `${width}`, ...curve.map(([, flops]) => (flops / 1e9).toFixed(1))]),
  );
  return [
    ...refinement(profile),
    `Measured ${measured ?? 'never'}. Products of so many rows, GFLOP/s:`,
    formatTable([['weights', 'width', ...rows], ...forms]),
    '',
    formatTable([
      ['disk, reading', diskRate(links.diskRead, buffered?.diskRead)],
      ['disk, writing', diskRate(links.diskWrite, buffered?.diskWrite)],
      ['attention of the cache', perSecond(attention.cacheBytesPerSecond[profile.computeTier] ?? 0)],
      [
        'attention of prompts',
        attention.prompt.map(([length, flops]) => `${length}: ${(flops / 1e9).toFixed(1)} GFLOP/s`).join(', '),
      ],
      ['between the products', `${(profile.elementsPerSecond / 1e9).toFixed(2)} G values/s`],
      ['a call', `${(1e6 * profile.callSeconds).toFixed(0)} \u00b5s`],
      ['quantising', quantising(profile)],
      ...(profile.rehearsed ?? []).map(rehearsal),
    ]),
  ].join('\n');
}

function refinement({ refined }: HardwareProfile): string[] {
  if (!refined) return [];
  const { computeFactor, ioFactor, runs, date } = refined;
  const factors = `arithmetic takes ${computeFactor.toFixed(2)}, what waits for the disk ${ioFactor.toFixed(2)} of what was measured`;
  return [`Refined ${date} by ${runs} ${runs === 1 ? 'run' : 'runs'}: ${factors}.`];
}

function rehearsal({ width, products, partSeconds, attention, disk }: Rehearsal): [string, string] {
  const factors = `products ${products.toFixed(2)}, attention ${attention.toFixed(2)}, disk ${disk.toFixed(2)}`;
  const part = `${(1e6 * partSeconds).toFixed(0)} \u00b5s for each part that streams`;
  return [`the whole engine, width ${width}`, `${factors} of what its parts take, and ${part}`];
}

function diskRate({ alone, together }: LinkRate, buffered: number | undefined): string {
  const cached = buffered === undefined ? '' : `, ${perSecond(buffered)} through the page cache`;
  return `${perSecond(alone)}, ${perSecond(together)} beside the other way${cached}`;
}

function quantising({ quantizeValuesPerSecond, dequantizeValuesPerSecond }: HardwareProfile): string {
  return (['int8', 'int4'] as const)
    .map((form) => {
      const [to, from] = [quantizeValuesPerSecond?.[form] ?? 0, dequantizeValuesPerSecond?.[form] ?? 0];
      return `${form}: ${(to / 1e6).toFixed(0)} M values/s, back ${(from / 1e6).toFixed(0)}`;
    })
    .join('; ');
}

function perSecond(bytes: number): string {
  return `${formatBytes(bytes)}/s`;
}
