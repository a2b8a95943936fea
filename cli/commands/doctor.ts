/** `zigzag doctor`: what was found on this machine, what is missing, and how fast it is. */
import type { Command } from 'commander';
import type { HardwareProfile } from '../../engine/policy/hardware.js';
import type { Finding } from '../doctor.js';
import { FailedError } from '../failures.js';
import { measuredHardware, refinedHardware } from '../hardware.js';
import { describeHardware } from '../hardware-report.js';
import { interruptible } from '../interrupt.js';
import { note, print, printJson } from '../print.js';
import { coloursFor } from '../terminal.js';

interface DoctorFlags {
  readonly measure?: boolean;
  readonly refine?: boolean;
  readonly json?: boolean;
}

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('say what was found on this machine and what is missing, and measure how fast it is')
    .option('--measure', 'measure even if this machine was measured before')
    .option('--no-measure', 'do not measure')
    .option('--refine', 'correct what was measured by what runs have taken since')
    .option('--json', 'end stdout with one JSON object')
    .action(doctor);
}

async function doctor({ measure, refine, json }: DoctorFlags): Promise<void> {
  const { examine } = await import('../doctor.js');
  const findings = await examine();
  if (!json) for (const finding of findings) print(line(finding));
  // Offload stores, which the disk is measured for, lie in the cache.
  const measurable = findings.every(({ name, state }) => name !== 'Cache' || state !== 'missing');
  const hardware = refine
    ? refinedHardware()
    : measure === false || !measurable
      ? undefined
      : await measured(measure ?? false);
  if (json) printJson({ ok: findings.every(({ state }) => state !== 'missing'), findings, hardware: hardware ?? null });
  else if (hardware) print(`\n${describeHardware(hardware)}`);
  const missing = findings.filter(({ state }) => state === 'missing');
  if (missing.length > 0) throw new FailedError(`missing: ${missing.map(({ name }) => name).join(', ')}; see above`);
}

function measured(anew: boolean): Promise<HardwareProfile> {
  return interruptible(
    (signal) => measuredHardware({ anew, signal }),
    () => note('stopping'),
    'Interrupted. Nothing of what was measured is kept.',
  );
}

function line({ name, state, found, advice }: Finding): string {
  const colours = coloursFor(process.stdout);
  const marks = { ok: colours.green('\u2713'), note: colours.yellow('!'), missing: colours.red('\u2717') };
  return `${marks[state]} ${name.padEnd(10)} ${found}${advice ? `\n             ${colours.dim(advice)}` : ''}`;
}
