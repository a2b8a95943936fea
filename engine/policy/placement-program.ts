/**
 * The nine placement fractions, as a linear program (FlexGen §4.3): minimise the time of all sweeps, where each kind of sweep
 * lasts as long as the longest of its costs, within the capacity of every tier.
 */
import type { Fractions } from '../memory/placement.js';
import type { TierName } from '../memory/tier.js';
import {
  type Constraint,
  constant,
  type Linear,
  type LinearProgram,
  plus,
  type Solve,
  times,
  valueAt,
  variable,
} from './linear-program.js';

export type PlacedName = 'weights' | 'kv' | 'activations';

/** Where everything lives, as shares. */
export type PlacedFractions = Readonly<Record<PlacedName, Fractions>>;

/** A share of something on a tier, as a quantity. */
export function share(placed: PlacedName, tier: TierName): Linear {
  return variable(`${placed}.${tier}`);
}

/** Sweeps, or parts of sweeps, that cost the same. */
export interface SweepCosts {
  readonly name: string;
  readonly count: number;
  /** Seconds of what goes on at the same time; a sweep lasts as long as the longest. */
  readonly seconds: Readonly<Record<string, Linear>>;
  /** It lasts at least so long as well, such as where two of them share a link. */
  readonly limits?: Readonly<Record<string, Linear>>;
}

/** What a tier must hold at some time. */
export interface TierUse {
  readonly tier: TierName;
  readonly bytes: Linear;
  readonly capacityBytes: number;
}

export interface PlacementProblem {
  readonly sweeps: readonly SweepCosts[];
  readonly uses: readonly TierUse[];
  /** Of what is shorter than the longest, the share of its time that is not hidden all the same; default: none. */
  readonly exposed?: number;
  /** Shares that are not free, such as those of a tier that is not there. */
  readonly pinned?: Readonly<Record<string, number>>;
}

export interface SolvedPlacement {
  readonly fractions: PlacedFractions;
  readonly seconds: number;
}

const PLACED = ['weights', 'kv', 'activations'] as const;
const TIERS = ['gpu', 'cpu', 'disk'] as const;
/** Times this close are a tie. */
const TIE = 1e-7;
/** The solver's tolerance: shares this near 0 or 1 are that. */
const TOLERANCE = 1e-6;

/** @returns undefined where the tiers cannot hold it. Among placements of equal time, one that fills least of fast memory. */
export function solvePlacement(problem: PlacementProblem, solve: Solve): SolvedPlacement | undefined {
  const fastest = solve(placementProgram(problem));
  if (fastest.status !== 'optimal') return undefined;
  const { objective, constraints } = placementProgram(problem);
  const limit = constant(fastest.objective * (1 + TIE));
  const thrifty = solve({
    objective: memoryShare(problem),
    constraints: [...constraints, { name: 'time', left: objective, relation: 'atMost', right: limit }],
  });
  const { values } = thrifty.status === 'optimal' ? thrifty : fastest;
  return { fractions: fractionsOf(values), seconds: sweepSeconds(problem, fractionsOf(values)) };
}

/** One of the fastest, whatever memory it fills: at half the cost. */
export function fastestPlacement(problem: PlacementProblem, solve: Solve): SolvedPlacement | undefined {
  const outcome = solve(placementProgram(problem));
  if (outcome.status !== 'optimal') return undefined;
  return { fractions: fractionsOf(outcome.values), seconds: outcome.objective };
}

/** Seconds of all sweeps at a given placement. */
export function sweepSeconds({ sweeps, exposed }: PlacementProblem, fractions: PlacedFractions): number {
  return sweeps.reduce((sum, sweep) => sum + sweep.count * boundOf(sweep, fractions, exposed).seconds, 0);
}

/** How long a sweep lasts, and the cost that it waits for. */
export function boundOf(sweep: SweepCosts, fractions: PlacedFractions, exposed = 0): { name: string; seconds: number } {
  const values = valuesOf(fractions);
  let longest = { name: '', seconds: Number.NEGATIVE_INFINITY };
  for (const [name, cost] of Object.entries({ ...sweep.seconds, ...sweep.limits })) {
    const seconds = valueAt(cost, values);
    if (seconds > longest.seconds) longest = { name, seconds };
  }
  const all = valueAt(plus(...Object.values(sweep.seconds)), values);
  return { name: longest.name, seconds: (1 - exposed) * longest.seconds + exposed * all };
}

/** Bytes by which a placement exceeds what a tier holds; empty where it fits. */
export function excessBytes({ uses }: PlacementProblem, fractions: PlacedFractions): Partial<Record<TierName, number>> {
  const values = valuesOf(fractions);
  const excess: Partial<Record<TierName, number>> = {};
  for (const { tier, bytes, capacityBytes } of uses) {
    const over = valueAt(bytes, values) - capacityBytes;
    if (over > TOLERANCE * capacityBytes) excess[tier] = Math.max(over, excess[tier] ?? 0);
  }
  return excess;
}

/**
 * The least that one tier must hold for a placement to exist, the other tiers being as they are.
 *
 * @returns undefined where that tier alone cannot help
 */
export function neededBytes(problem: PlacementProblem, tier: TierName, solve: Solve): number | undefined {
  const needed = variable('needed');
  const constraints = [
    ...shareConstraints(problem),
    ...problem.uses.filter(isBounded).map(({ tier: of, bytes, capacityBytes }): Constraint => {
      const right = of === tier ? times(unitBytes(problem), needed) : constant(capacityBytes);
      return { name: of, left: bytes, relation: 'atMost', right };
    }),
  ];
  const outcome = solve({ objective: needed, constraints });
  return outcome.status === 'optimal' ? outcome.objective * unitBytes(problem) : undefined;
}

function placementProgram(problem: PlacementProblem): LinearProgram {
  const { sweeps, uses, exposed = 0 } = problem;
  return {
    objective: plus(
      ...sweeps.flatMap(({ name, count, seconds }) => [
        variable(name, (1 - exposed) * count),
        ...(exposed > 0 ? Object.values(seconds).map((cost) => times(exposed * count, cost)) : []),
      ]),
    ),
    constraints: [
      ...shareConstraints(problem),
      ...uses.filter(isBounded).map(({ tier, bytes, capacityBytes }): Constraint => {
        return { name: tier, left: bytes, relation: 'atMost', right: constant(capacityBytes) };
      }),
      ...sweeps.flatMap(({ name, seconds, limits }) =>
        Object.entries({ ...seconds, ...limits }).map(([cost, left]): Constraint => {
          return { name: `${name} ${cost}`, left, relation: 'atMost', right: variable(name) };
        }),
      ),
    ],
  };
}

function shareConstraints({ pinned = {} }: PlacementProblem): Constraint[] {
  const wholes = PLACED.map((placed): Constraint => {
    const left = plus(...TIERS.map((tier) => share(placed, tier)));
    return { name: placed, left, relation: 'equal', right: constant(1) };
  });
  const fixed = Object.entries(pinned).map(([name, value]): Constraint => {
    return { name, left: variable(name), relation: 'equal', right: constant(value) };
  });
  return [...wholes, ...fixed];
}

function isBounded({ capacityBytes }: TierUse): boolean {
  return Number.isFinite(capacityBytes);
}

/** What is held of gpu and cpu, and a little of the disk, each as a share of its capacity. */
function memoryShare({ uses }: PlacementProblem): Linear {
  const weights: Readonly<Record<TierName, number>> = { gpu: 1, cpu: 1, disk: 0.01 };
  return plus(
    ...uses
      .filter((use) => use.capacityBytes > 0 && isBounded(use))
      .map(({ tier, bytes, capacityBytes }) => times(weights[tier] / capacityBytes, bytes)),
  );
}

/** Near what is used, so that the program's numbers are near 1. */
function unitBytes({ uses }: PlacementProblem): number {
  const largest = uses.flatMap(({ bytes }) => [bytes.constant, ...Object.values(bytes.terms)].map(Math.abs));
  return Math.max(1, ...largest);
}

export function valuesOf(fractions: PlacedFractions): Record<string, number> {
  const pairs = PLACED.flatMap((placed) =>
    TIERS.map((tier) => [`${placed}.${tier}`, fractions[placed][tier]] as const),
  );
  return Object.fromEntries(pairs);
}

function fractionsOf(values: Readonly<Record<string, number>>): PlacedFractions {
  const of = (placed: PlacedName): Fractions => {
    const [gpu, cpu] = [within(values[`${placed}.gpu`]), within(values[`${placed}.cpu`])];
    const capped = Math.min(cpu, 1 - gpu);
    return { gpu, cpu: capped, disk: within(1 - gpu - capped) };
  };
  return { weights: of('weights'), kv: of('kv'), activations: of('activations') };
}

function within(value = 0): number {
  if (value < TOLERANCE) return 0;
  return value > 1 - TOLERANCE ? 1 : value;
}
