/**
 * A machine as the cost models see it: what each tier holds, how fast each link moves and how fast each tier computes.
 *
 * A profile is data. It is measured on the machine itself, or put together from data sheets for a machine that is not at
 * hand; either way it is JSON, and says where its figures come from.
 */
import type { PackedType } from '../memory/packed.js';
import type { TierName } from '../memory/tier.js';

/** Points of a rate against rows, by rising rows. */
export type Curve = readonly (readonly [rows: number, flopsPerSecond: number])[];

/** The rates of products with matrices that are so wide; of narrow ones they are lower. */
export interface ProductRates {
  readonly width: number;
  readonly curve: Curve;
}

/** One direction of a link, in bytes a second. */
export interface LinkRate {
  /** While nothing else moves. */
  readonly alone: number;
  /** While the other direction moves too. */
  readonly together: number;
}

export type LinkName = 'hostToDevice' | 'deviceToHost' | 'diskRead' | 'diskWrite';

export interface HardwareProfile {
  readonly name: string;
  /** Where the figures come from, for people. */
  readonly source: string;
  /** When they were measured, ISO 8601; absent where they were not. */
  readonly measured?: string;
  /** What tells this machine from another, where it was measured. */
  readonly machine?: MachineIdentity;
  readonly computeTier: 'gpu' | 'cpu';
  /** What a run may use of each tier, unless budgets say otherwise. */
  readonly capacityBytes: Readonly<Record<TierName, number>>;
  /** To and from a device only where there is one. */
  readonly links: Readonly<Partial<Record<LinkName, LinkRate>>> & Readonly<Record<'diskRead' | 'diskWrite', LinkRate>>;
  /** Through the page cache; the engine reads past it. */
  readonly bufferedBytesPerSecond?: Readonly<Record<'diskRead' | 'diskWrite', number>>;
  /** Products for each form of weights that stream, widening included where it was measured so; by rising width. */
  readonly products: Readonly<Partial<Record<PackedType, readonly ProductRates[]>>>;
  /** Values a second that are widened before a product; for forms without a curve of their own. */
  readonly dequantizeValuesPerSecond?: Readonly<Partial<Record<PackedType, number>>>;
  readonly quantizeValuesPerSecond?: Readonly<Partial<Record<PackedType, number>>>;
  readonly attention: {
    /** Among the rows of one prompt, on the tier that computes. */
    readonly prompt: Curve;
    /** Bytes of keys and values a second, of one new row for each sequence, by the tier that attends. */
    readonly cacheBytesPerSecond: Readonly<Partial<Record<'gpu' | 'cpu', number>>>;
  };
  /** Values a second through everything between the products: norms, residuals, copies. */
  readonly elementsPerSecond: number;
  /** Of one call of a kernel. */
  readonly callSeconds: number;
  /** What the whole engine takes beside its parts, by rising width. */
  readonly rehearsed?: readonly Rehearsal[];
  /** How measured runs departed from the predictions, as factors of time; folded in by refining. */
  readonly refined?: Refinement;
}

export interface MachineIdentity {
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes: number;
}

/** Of memory and of free disk, what a run may use: the system and the other processes need some. */
export function usableBytes(bytes: number): number {
  return Math.floor(0.8 * bytes);
}

/** What the engine takes beside what its parts take alone, found with a model of this width. */
export interface Rehearsal {
  readonly width: number;
  /** As a factor of time: of everything that is computed but attention, all weights being in memory. */
  readonly products: number;
  /** What each part of a matrix that streams takes from computing, in seconds, be it large or small. */
  readonly partSeconds: number;
  /** As factors of time. */
  readonly attention: number;
  /** Of reading and writing the disk while computing. */
  readonly disk: number;
}

export interface Refinement {
  readonly computeFactor: number;
  readonly ioFactor: number;
  readonly runs: number;
  /** When they were folded in, ISO 8601. */
  readonly date: string;
}

/**
 * Seconds of products of `rows` rows with a total of `flops` operations.
 *
 * Between two points the time is taken as linear in rows, as it is where a matrix is read once; below the first it does not
 * fall, since the matrix is still read; above the last the rate does not rise.
 */
export function curveSeconds(curve: Curve, rows: number, flops: number): number {
  if (rows <= 0 || flops <= 0) return 0;
  return (flops / rows) * secondsPerFlop(curve, rows);
}

/** As `betweenWidths` of the curves' times. */
export function productSeconds(rates: readonly ProductRates[], width: number, rows: number, flops: number): number {
  return betweenWidths(rates, width, ({ curve }) => curveSeconds(curve, rows, flops));
}

/** Between two widths that were measured a value is interpolated over their logarithms; beyond them it is the nearest's. */
export function betweenWidths<Measured extends { readonly width: number }>(
  measured: readonly Measured[],
  width: number,
  of: (one: Measured) => number,
): number {
  const above = measured.findIndex((one) => one.width >= width);
  if (above === 0) return of(measured[0]!);
  if (above < 0) return of(measured.at(-1)!);
  const [from, to] = [measured[above - 1]!, measured[above]!];
  const share = Math.log(width / from.width) / Math.log(to.width / from.width);
  return (1 - share) * of(from) + share * of(to);
}

/** Seconds of one operation for each of `rows` rows. */
function secondsPerFlop(curve: Curve, rows: number): number {
  const timeAt = ([at, rate]: readonly [number, number]) => at / rate;
  const [first, last] = [curve[0]!, curve.at(-1)!];
  if (rows <= first[0]) return timeAt(first);
  if (rows >= last[0]) return rows / last[1];
  const above = curve.findIndex(([at]) => at >= rows);
  const [from, to] = [curve[above - 1]!, curve[above]!];
  const share = (rows - from[0]) / (to[0] - from[0]);
  return timeAt(from) + share * (timeAt(to) - timeAt(from));
}

/** Of matrices of any width. */
export function anyWidth(curve: Curve): readonly ProductRates[] {
  return [{ width: 1, curve }];
}

/** The rate of products that are bound by reading the weights below some rows, and by arithmetic above. */
export function rooflineCurve(peakFlopsPerSecond: number, bytesPerSecond: number, bytesPerValue: number): Curve {
  const knee = Math.ceil((peakFlopsPerSecond * bytesPerValue) / (2 * bytesPerSecond));
  const bound = (rows: number) => Math.min(peakFlopsPerSecond, (2 * rows * bytesPerSecond) / bytesPerValue);
  return [1, knee].map((rows) => [rows, bound(rows)] as const);
}
