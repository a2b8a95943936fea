/**
 * Set-up that nobody has to think about; `npm start` and `npm test` run it first.
 *
 *     node bootstrap.mjs            packages, build, Temporal server
 *     node bootstrap.mjs --model    and the default model
 */
import process from 'node:process';
import { requireNode } from './bootstrap/node-version.mjs';

requireNode();
const unknown = process.argv.slice(2).find((word) => word !== '--model');
if (unknown !== undefined) {
  process.stderr.write(`bootstrap.mjs: unknown option ${unknown}; the only one is --model\n`);
  process.exit(2);
}

// Loaded only now: a Node that is too old could not read these files.
const { buildStep, modelStep, packagesStep, runSteps, StepError, temporalStep } = await import('./bootstrap/steps.mjs');
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
try {
  const steps = [packagesStep, buildStep, temporalStep];
  await runSteps(process.argv.includes('--model') ? [...steps, modelStep] : steps);
} catch (error) {
  process.stderr.write(`${error instanceof StepError ? error.message : error.stack}\n`);
  process.exit(1);
}
