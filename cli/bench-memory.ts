/** Watches how much memory this process holds: all of it, whoever allocated it. */
import { readFileSync, writeFileSync } from 'node:fs';

export interface MemoryWatch {
  /** @returns the most bytes that were resident since the watch began */
  stop(): number;
}

const PERIOD_MILLISECONDS = 100;

/** Samples, and asks the system for its own peak where it keeps one that can be begun anew. */
export function watchMemory(): MemoryWatch {
  const systemKnows = beginSystemPeak();
  let peak = process.memoryUsage.rss();
  const sample = () => {
    peak = Math.max(peak, process.memoryUsage.rss());
  };
  const timer = setInterval(sample, PERIOD_MILLISECONDS);
  timer.unref();
  return {
    stop() {
      clearInterval(timer);
      sample();
      return Math.max(peak, systemKnows ? systemPeak() : 0);
    },
  };
}

/** Forgets the peak of what the process did before. @returns false where the system cannot. */
function beginSystemPeak(): boolean {
  try {
    // See proc(5): 5 resets the peak resident set size.
    writeFileSync('/proc/self/clear_refs', '5');
    return true;
  } catch {
    return false;
  }
}

function systemPeak(): number {
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return kibibytes === undefined ? 0 : Number(kibibytes) * 1024;
}
