/** `zigzag worker`: computes what runs and schedules ask for, until Ctrl-C. */
import { type Command, Option } from 'commander';
import { cacheDirectory } from '../bootstrap.js';
import { appendLog } from '../log.js';
import { requireModel } from '../model-store.js';
import { note } from '../print.js';
import { untilStopped } from '../stay.js';

export function addWorker(program: Command): void {
  program
    .command('worker')
    .description('compute for detached and scheduled runs, until Ctrl-C')
    .addOption(new Option('--device <name>', 'what computes').choices(['cpu']).default('cpu'))
    .option('--queue <name>', 'serve the runs of this queue (default: that of detached and scheduled runs)')
    .action(worker);
}

async function worker({ device, queue }: { device: string; queue?: string }): Promise<void> {
  const [{ openConnection }, { startEmbeddedWorker }, { SHARED_QUEUE }, { logTemporalTo }, { openEngine }] =
    await Promise.all([
      import('../connection.js'),
      import('../worker.js'),
      import('../../activities/queues.js'),
      import('../../activities/temporal-log.js'),
      import('../engine.js'),
    ]);
  logTemporalTo(appendLog);
  await untilStopped(async (signal, fail) => {
    const temporal = await openConnection({ signal, report: note });
    try {
      temporal.lost.catch(fail);
      const running = await startEmbeddedWorker({
        temporal,
        queue: queue ?? SHARED_QUEUE,
        deviceName: device,
        cacheDir: cacheDirectory(),
        openEngine,
        resolveModel: requireModel,
        report: note,
      });
      running.stopped.catch(fail);
      note(`Working for ${running.queues.join(' and ')} at ${temporal.address}. Ctrl-C ends this command.`);
      if (temporal.uiAddress) note(`Temporal UI ${temporal.uiAddress}`);
      return async () => {
        note('Stopping: what is under way goes on elsewhere, or here the next time.');
        await running.shutdown();
        await temporal.close();
      };
    } catch (error) {
      await temporal.close();
      throw error;
    }
  });
}
