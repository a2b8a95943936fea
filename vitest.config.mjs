import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

// Tests run on the compiled output: worker threads and the workflow bundle then load the files that users run.
export default defineConfig({
  test: {
    include: ['dist/test/**/*.test.js'],
    pool: 'forks',
    // Many files mostly wait, for a server or a timeout, so all cores are used, where vitest would leave one.
    maxWorkers: Math.min(4, availableParallelism()),
    testTimeout: 120_000,
    hookTimeout: 180_000,
  },
});
