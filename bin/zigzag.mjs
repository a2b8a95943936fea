#!/usr/bin/env node
/**
 * The `zigzag` command: installs and compiles where that was not done yet, so that it works in a fresh clone.
 */
import process from 'node:process';
import { requireNode } from '../bootstrap/node-version.mjs';

requireNode();
const { buildStep, packagesStep, runSteps, StepError } = await import('../bootstrap/steps.mjs');
const interrupted = () => process.exit(130);
process.on('SIGINT', interrupted);
try {
  await runSteps([packagesStep, buildStep]);
} catch (error) {
  process.stderr.write(`${error instanceof StepError ? error.message : error.stack}\n`);
  process.exit(1);
}
process.removeListener('SIGINT', interrupted);
await import('../dist/cli/main.js');
