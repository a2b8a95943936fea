/** What passes between the engine's thread and the one that owns it. */
import type { CheckpointOptions } from './checkpoint.js';
import type { EngineErrorCode } from './errors.js';
import type { EngineInfo, EngineProgress, EngineRequest, EngineResult, EngineUsage } from './requests.js';

export interface ThrownError {
  /** Absent where the error was not an EngineError. */
  readonly code?: EngineErrorCode;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export type ToThread =
  | {
      readonly type: 'run';
      readonly id: number;
      readonly requests: readonly EngineRequest[];
      readonly checkpoint: CheckpointOptions | undefined;
    }
  | { readonly type: 'usage'; readonly id: number }
  | { readonly type: 'abort'; readonly id: number }
  | { readonly type: 'close' };

export type FromThread =
  | { readonly type: 'opened'; readonly info: EngineInfo }
  | { readonly type: 'refused'; readonly error: ThrownError }
  | { readonly type: 'progress'; readonly id: number; readonly progress: EngineProgress }
  | { readonly type: 'done'; readonly id: number; readonly answer: EngineResult[] | EngineUsage }
  | { readonly type: 'failed'; readonly id: number; readonly error: ThrownError }
  | { readonly type: 'closed' };
