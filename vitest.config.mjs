import { defineConfig } from 'vitest/config';

// Tests run on the compiled output: worker threads and the workflow bundle then load the files that users run.
export default defineConfig({
  test: {
    include: ['dist/test/**/*.test.js'],
    pool: 'forks',
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
