/** Where a benchmark stands, on stderr: one line that is written over on a terminal, elsewhere one every ten seconds. */
import type { EngineProgress } from '../engine/requests.js';
import { formatCount, type Output } from './terminal.js';

export interface BenchProgress {
  /** @param run counted from 1 */
  update(progress: EngineProgress, run: number, runs: number): void;
  stop(): void;
}

const TERMINAL_MILLISECONDS = 200;
const LINE_MILLISECONDS = 10_000;

export function openBenchProgress(out: Output = process.stderr): BenchProgress {
  const onTerminal = out.isTTY === true && process.env.TERM !== 'dumb';
  const period = onTerminal ? TERMINAL_MILLISECONDS : LINE_MILLISECONDS;
  let last = performance.now();
  let began: number | undefined;
  let current = 0;
  return {
    update({ finished, total, promptTokens, generatedTokens, live }, run, runs) {
      const now = performance.now();
      if (run !== current || began === undefined) [current, began] = [run, now];
      if (now - last < period) return;
      last = now;
      const rate = (promptTokens + generatedTokens) / ((now - began) / 1000 || 1);
      const line = [
        ...(runs > 1 ? [`run ${run}/${runs}`] : []),
        `${formatCount(finished)}/${formatCount(total)} sequences, ${live} live`,
        `${formatCount(promptTokens)} prompt tokens, ${formatCount(generatedTokens)} generated`,
        `${formatCount(rate)} tokens/s`,
      ].join(' \u00b7 ');
      out.write(onTerminal ? `\r\u001b[K${line}` : `${line}\n`);
    },
    stop() {
      if (onTerminal) out.write('\r\u001b[K');
    },
  };
}
