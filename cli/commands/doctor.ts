/** `zigzag doctor`: what was found on this machine, and what is missing. */
import type { Command } from 'commander';
import type { Finding } from '../doctor.js';
import { FailedError } from '../failures.js';
import { print, printJson } from '../print.js';
import { coloursFor } from '../terminal.js';

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('say what was found on this machine and what is missing')
    .option('--json', 'end stdout with one JSON object')
    .action(doctor);
}

async function doctor({ json }: { json?: boolean }): Promise<void> {
  const { examine } = await import('../doctor.js');
  const findings = await examine();
  if (json) printJson({ ok: findings.every(({ state }) => state !== 'missing'), findings });
  else for (const finding of findings) print(line(finding));
  const missing = findings.filter(({ state }) => state === 'missing');
  if (missing.length > 0) throw new FailedError(`missing: ${missing.map(({ name }) => name).join(', ')}; see above`);
}

function line({ name, state, found, advice }: Finding): string {
  const colours = coloursFor(process.stdout);
  const marks = { ok: colours.green('\u2713'), note: colours.yellow('!'), missing: colours.red('\u2717') };
  return `${marks[state]} ${name.padEnd(10)} ${found}${advice ? `\n             ${colours.dim(advice)}` : ''}`;
}
