/** The workflows that a worker knows. */
export { runPipeline } from './run.js';
export { scheduledRun } from './scheduled.js';
