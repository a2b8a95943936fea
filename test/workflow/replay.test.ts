import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from '@temporalio/worker';
import { expect, it } from 'vitest';
import { logTemporalTo } from '../../activities/temporal-log.js';
import { workflowBundle } from '../../activities/workflow-bundle.js';
import { cacheDirectory } from '../../cli/bootstrap.js';
import { FIXTURES, readJsonFixture } from '../support/golden.js';

logTemporalTo(() => {});

/** A run that was under way while the program was updated goes on with the new one. */
it.each(readdirSync(join(FIXTURES, 'histories')))('the workflow still decides as recorded: %s', async (name) => {
  const history = readJsonFixture<unknown>('histories', name);
  const options = { workflowBundle: { codePath: await workflowBundle(cacheDirectory()) } };
  await expect(Worker.runReplayHistory(options, history)).resolves.toBeUndefined();
});

it('a history that no execution of the workflow could have is refused', async () => {
  const history = readJsonFixture<{ events: { activityTaskScheduledEventAttributes?: object }[] }>(
    'histories',
    'reports.json',
  );
  const scheduled = history.events.find((event) => event.activityTaskScheduledEventAttributes);
  Object.assign(scheduled!.activityTaskScheduledEventAttributes!, { activityType: { name: 'anotherActivity' } });
  const options = { workflowBundle: { codePath: await workflowBundle(cacheDirectory()) } };
  await expect(Worker.runReplayHistory(options, history)).rejects.toThrow(/[Nn]ondeterminism/);
});
