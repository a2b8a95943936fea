/** Measured figures beside what they should be. */

export interface Check {
  readonly name: string;
  readonly found: number;
  readonly met: boolean;
  readonly needed: string;
}

export function atLeast(name: string, found: number, least: number): Check {
  return { name, found, met: found >= least, needed: `at least ${least}` };
}

export function below(name: string, found: number, limit: number): Check {
  return { name, found, met: found < limit, needed: `below ${limit}` };
}

/** @returns whether all are met */
export function printChecks(checks: readonly Check[]): boolean {
  for (const { name, found, met, needed } of checks) {
    print(`${met ? 'met    ' : 'MISSED '} ${name}: ${found.toFixed(3)} (${needed})`);
  }
  return checks.every(({ met }) => met);
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Of an even number, the lower of the two in the middle. */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)]!;
}
