/** A run that somebody holds: nothing of it is computed until it is told to go on, and nothing is lost meanwhile. */
import { condition, defineSignal, setHandler } from '@temporalio/workflow';

export const pauseSignal = defineSignal('pause');
export const resumeSignal = defineSignal('resume');

export interface Pause {
  /** Whether the run is to stand still now. */
  readonly isAsked: boolean;
  begins(): Promise<void>;
  ends(): Promise<void>;
}

/** Told by the signals from now on. */
export function openPause(): Pause {
  let isAsked = false;
  setHandler(pauseSignal, () => {
    isAsked = true;
  });
  setHandler(resumeSignal, () => {
    isAsked = false;
  });
  return {
    get isAsked() {
      return isAsked;
    },
    begins: () => condition(() => isAsked),
    ends: () => condition(() => !isAsked),
  };
}
