/** The version of this package, as parts and reports carry it. */
import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** @param numerics name of the engine's arithmetic. */
export function engineVersion(numerics: string): string {
  return `zigzag ${version} (${numerics})`;
}
