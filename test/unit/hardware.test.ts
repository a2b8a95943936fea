import { describe, expect, it } from 'vitest';
import { curveSeconds, type HardwareProfile, productSeconds, rooflineCurve } from '../../engine/policy/hardware.js';
import { formatHardware, parseHardware } from '../../engine/policy/hardware-file.js';
import { hardwareProfiles, namedHardware } from '../../engine/policy/profiles.js';

const profile = namedHardware('t4-208gb');
/** The profile with one value changed. */
const changed = (path: string, value: unknown): string => {
  const copy = JSON.parse(formatHardware(profile)) as Record<string, unknown>;
  const keys = path.split('.');
  const inner = keys.slice(0, -1).reduce((object, key) => object[key] as Record<string, unknown>, copy);
  inner[keys.at(-1)!] = value;
  return JSON.stringify(copy);
};

describe('a hardware profile', () => {
  it.each([...hardwareProfiles.values()])('is the same after it was written and read: $name', (shipped) => {
    expect(parseHardware(formatHardware(shipped), 'x.json')).toEqual(shipped);
    expect(shipped.source.length).toBeGreaterThan(40);
  });

  it.each([
    ['computeTier', 'tpu', 'machine.json: computeTier: needs "gpu" or "cpu", found "tpu"'],
    ['capacityBytes.cpu', '204 GB', 'machine.json: capacityBytes.cpu: needs a number of bytes, found "204 GB"'],
    ['links.diskRead', { alone: 1e9 }, 'machine.json: links.diskRead: needs {"alone"'],
    ['links.hostToDevice', undefined, 'machine.json: links.hostToDevice: a machine with a gpu needs'],
    ['products', {}, 'machine.json: products: needs the curve of one form of weights at least'],
    [
      'products.int8',
      [
        {
          width: 64,
          curve: [
            [8, 1e9],
            [8, 2e9],
          ],
        },
      ],
      'machine.json: products.int8: needs a list such as',
    ],
    ['attention.cacheBytesPerSecond', { cpu: 1e9 }, 'attention.cacheBytesPerSecond.gpu: needs a positive number'],
    ['rehearsed', [], 'rehearsed: needs a list of what rehearsals found, or nothing, found []'],
    ['rehearsed', [{ width: 64, products: 0 }], 'rehearsed[0].products: needs a positive number, found 0'],
    ['rehearsed', [{ width: 64, products: 1 }], 'rehearsed[0].partSeconds: needs seconds, found nothing'],
    ['elementsPerSecond', 0, 'elementsPerSecond: needs a positive number, found 0'],
  ])('is refused with a message that names the key: %s', (path, value, message) => {
    expect(() => parseHardware(changed(path, value), 'machine.json')).toThrow(message);
  });

  it('is refused where it is no JSON, or no machine of this name is shipped', () => {
    expect(() => parseHardware('{', 'machine.json')).toThrow('machine.json: is not valid JSON');
    expect(() => namedHardware('a100')).toThrow('name one of t4-208gb, rtx-3090, h100, h200-16gib');
  });
});

describe('the rate of products', () => {
  it('lies between those of the two widths that were measured', () => {
    const rates = [10, 1000].map((width) => ({ width, curve: [[1, width]] as const }));
    const seconds = [1, 10, 100, 1000, 5000].map((width) => productSeconds(rates, width, 1, 1000));
    expect(seconds).toEqual([100, 100, 50.5, 1, 1].map((expected) => expect.closeTo(expected, 9)));
  });

  // 1 FLOP/s for each row up to 10 rows, and 40 FLOP/s from 20 rows on.
  const curve: HardwareProfile['attention']['prompt'] = [
    [10, 10],
    [20, 40],
  ];

  it.each([
    ['reads the matrix whatever the rows, below the first point', 5, 5, 1],
    ['is as measured at a point', 10, 10, 1],
    ['has a time between those of the two points in between', 15, 15, (1 + 0.5) / 2],
    ['stays as it is above the last point', 80, 80, 2],
    ['costs nothing without rows', 0, 0, 0],
  ])('%s', (_, rows, flops, seconds) => expect(curveSeconds(curve, rows, flops)).toBeCloseTo(seconds, 12));

  it('is bound by the bandwidth below the roofline and by arithmetic above', () => {
    const roofline = rooflineCurve(650e12, 4.8e12, 2);
    // 2 FLOP for each of 1e9 values a row: 2 GB at 4.8 TB/s, or 2e9 x 4096 FLOP at 650 TFLOP/s.
    expect(curveSeconds(roofline, 1, 2e9)).toBeCloseTo(2e9 / 4.8e12, 9);
    expect(curveSeconds(roofline, 4096, 2e9 * 4096)).toBeCloseTo((2e9 * 4096) / 650e12, 9);
  });
});
