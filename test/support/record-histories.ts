/**
 * Records the histories that `replay.test.ts` replays: `node dist/test/support/record-histories.js`, whenever the workflow
 * is changed on purpose in a way that running workflows cannot follow.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { deviceQueueOf } from '../../activities/queues.js';
import type { runPipeline } from '../../workflows/run.js';
import { FIXTURES } from './golden.js';
import { openTestTemporal, withWorker } from './temporal.js';
import { openWorld } from './world.js';

const server = await openTestTemporal();
try {
  const queue = 'record';
  await withWorker(server, queue, openWorld({ shards: 5 }), async () => {
    const { workflow } = server.temporal.client;
    const handle = await workflow.start<typeof runPipeline>('runPipeline', {
      workflowId: 'recorded',
      taskQueue: queue,
      args: [
        {
          run: { runDir: '/runs/recorded', name: 'recorded', fingerprint: 'f' },
          deviceQueue: deviceQueueOf(queue, 'cpu'),
          windowSize: 2,
          shardsPerExecution: 3,
        },
      ],
    });
    await handle.result();
    // The first continued as new, the last reported.
    const last = (await workflow.getHandle('recorded').describe()).runId;
    for (const [name, runId] of [
      ['continues-as-new', handle.firstExecutionRunId],
      ['reports', last],
    ] as const) {
      const history = await workflow.getHandle('recorded', runId).fetchHistory();
      const path = join(FIXTURES, 'histories', `${name}.json`);
      writeFileSync(path, `${JSON.stringify(JSON.parse(historyToJSON(history)), undefined, 1)}\n`);
    }
  });
} finally {
  await server.close();
}
