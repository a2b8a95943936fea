/** `zigzag ui`: the Temporal UI, for as long as somebody looks at it. */
import type { Command } from 'commander';
import { InputError } from '../../datasets/errors.js';
import { portNumber } from '../options.js';
import { note, print } from '../print.js';
import { untilStopped } from '../stay.js';
import type { ServerState } from '../temporal-server.js';

export function addUi(program: Command): void {
  program
    .command('ui')
    .description('start the local Temporal server, or use the one that runs, and stay until Ctrl-C')
    .option('--port <n>', 'port of the server', portNumber)
    .option('--ui-port <n>', 'port of the web UI', portNumber)
    .option('--keep', 'leave the server running afterwards')
    .option('--stop', 'stop the server, also one that was to be kept, and return')
    .action(ui);
}

interface UiFlags {
  readonly port?: number;
  readonly uiPort?: number;
  readonly keep?: boolean;
  readonly stop?: boolean;
}

/** Ctrl-C is how this command is meant to end, so its exit code is then 0. */
async function ui({ stop, ...flags }: UiFlags): Promise<void> {
  const { openLocalServer, stopLocalServer } = await import('../temporal-server.js');
  if (stop) {
    print((await stopLocalServer()) ? 'The local Temporal server is stopped.' : 'No local Temporal server runs.');
    return;
  }
  const { TEMPORAL_ADDRESS } = process.env;
  if (TEMPORAL_ADDRESS) {
    note(`note: TEMPORAL_ADDRESS is ${TEMPORAL_ADDRESS}; its UI is elsewhere, this one is of the local server`);
  }
  await untilStopped(async (signal, fail) => {
    const server = await openLocalServer({ ...flags, report: note, signal, onLost: fail });
    if (!hasPorts(server.state, flags)) {
      await server.close();
      throw new InputError(
        `the local server runs already, at ${server.state.address} with its UI at ${server.state.uiAddress}; ` +
          'leave --port and --ui-port out, or stop it first: zigzag ui --stop',
      );
    }
    print(server.state.uiAddress);
    note(`The Temporal UI is at the address above (server ${server.state.address}). Ctrl-C ends this command.`);
    return () => server.close();
  });
}

function hasPorts({ address, uiAddress }: ServerState, { port, uiPort }: UiFlags): boolean {
  const isAt = (where: string, wanted: number | undefined) => wanted === undefined || where.endsWith(`:${wanted}`);
  return isAt(address, port) && isAt(uiAddress, uiPort);
}
