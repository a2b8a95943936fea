/** Where Temporal's own messages go: never onto the terminal between progress bars. */
import { DefaultLogger, Runtime } from '@temporalio/worker';

type Sink = (line: string) => void;

let sink: Sink = () => {};
let installed = false;

/** Sends the messages of the SDK, its native part included, to `write`. Call before the first worker or connection. */
export function logTemporalTo(write: Sink, level: 'INFO' | 'WARN' = 'INFO'): void {
  sink = write;
  if (installed) return;
  installed = true;
  Runtime.install({
    logger: new DefaultLogger(level, (entry) => {
      const time = new Date(Number(entry.timestampNanos / 1_000_000n)).toISOString();
      sink(`${time} ${entry.level} ${entry.message}${metadata(entry.meta)}`);
    }),
    telemetryOptions: { logging: { filter: { core: 'WARN', other: 'ERROR' }, forward: {} } },
    // Ctrl-C belongs to the command line, which says what happens now.
    shutdownSignals: [],
  });
}

function metadata(meta: Record<string | symbol, unknown> = {}): string {
  const entries = Object.entries(meta).filter(([key]) => key !== 'sdkComponent');
  return entries.length === 0 ? '' : ` ${JSON.stringify(Object.fromEntries(entries.map(readable)))}`;
}

function readable([key, value]: [string, unknown]): [string, unknown] {
  return [key, value instanceof Error ? value.stack : typeof value === 'bigint' ? String(value) : value];
}
