/**
 * What is written for people, compared with what is there: commands, options, keys, links, paths.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Command, type CommanderError } from 'commander';
import { afterAll, describe, expect, it } from 'vitest';
import { loadPipeline } from '../../datasets/spec.js';
import { fewshotConfigSchema, refusedKeys, taskSchema } from '../../datasets/tasks-schema.js';
import { families } from '../../engine/model/families/index.js';
import { namedShapes } from '../../engine/model/named-shapes.js';

const DOCUMENTS = [
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'pipelines/README.md', 'pipelines/data/README.md'],
  ...readdirSync('docs').map((name) => `docs/${name}`),
].filter((path) => path.endsWith('.md'));
const text = (path: string) => readFileSync(path, 'utf8');

describe('docs/cli.md', async () => {
  const commands = leaves(await createProgram());
  const sections = sectionsOf(text('docs/cli.md'), /^### `(zigzag [^`]+)`$/);

  it('has a section for each command, with its arguments, and for no other', () => {
    expect(commands.length).toBeGreaterThan(20);
    expect([...sections.keys()].sort()).toEqual(commands.map(usage).sort());
  });

  it.each(commands.map((command) => [usage(command), command] as const))(
    'has a row for each option of %s, with its default',
    (heading, command) => {
      const rows = Array.from((sections.get(heading) ?? '').matchAll(/^\| `(--[^`]+)` \| *([^|]*?) *\|/gm));
      const documented = rows.map(([, flags, value]) => `${flags} ${value!.replaceAll('`', '')}`.trim());
      expect(documented.sort()).toEqual(command.options.map(optionRow).sort());
    },
  );
});

describe('docs/pipelines.md', () => {
  const document = text('docs/pipelines.md');
  const directory = mkdtempSync(join(tmpdir(), 'zigzag-docs-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** The answer to a key that nobody knows names those there are. */
  function knownKeys(inside: string): string[] {
    const path = join(directory, 'pipeline.yaml');
    const key = 'qqqqqqqqqqqqqqqqqqqqqqqq';
    const wrong = inside === '' ? `${key}: 1` : `${inside}: { ${key}: 1 }`;
    writeFileSync(path, `model: x\n${wrong}\n`);
    const message = messageOf(() => loadPipeline(path));
    return /known: ([\w, ]+)/.exec(message)?.[1]?.split(', ') ?? [];
  }

  it.each(['', 'source', 'prompt', 'generate', 'engine'])('has a row for each key of a pipeline: %s', (inside) => {
    const prefix = inside === '' ? '' : `${inside}.`;
    const known = knownKeys(inside);
    expect(known.length).toBeGreaterThan(1);
    const sections = new Set(['source', 'prompt', 'generate', 'engine']);
    const rows = Array.from(document.matchAll(/^\| `([\w.]+)` \|/gm), ([, key]) => key!);
    const own = rows.filter((key) => key.startsWith(prefix) && !key.slice(prefix.length).includes('.'));
    const wanted = known.filter((key) => inside !== '' || !sections.has(key)).map((key) => prefix + key);
    for (const key of wanted) expect(own).toContain(key);
    if (inside !== '') expect(own.sort()).toEqual(wanted.sort());
  });

  it.each([
    ['supported', Object.keys(taskSchema.shape)],
    ['supported in fewshot_config', Object.keys(fewshotConfigSchema.shape)],
    ['refused', Object.keys(refusedKeys)],
  ])('names each key of a task that is %s', (_, keys) => {
    for (const key of keys) expect(document).toContain(`\`${key}\``);
  });
});

describe('docs/models.md', () => {
  it('has a row for each family, by the names that its files give it', () => {
    const rows = text('docs/models.md')
      .split('\n')
      .filter((line) => line.startsWith('| '));
    for (const { hf, gguf } of families) {
      const names = [...(hf?.modelTypes ?? []), ...(gguf ? [gguf.architecture] : [])].map((name) => `\`${name}\``);
      expect(rows.some((row) => names.every((name) => row.includes(name)))).toBe(true);
    }
  });

  it('names each shape that can be had with random weights', () => {
    for (const name of namedShapes.keys()) expect(text('docs/models.md')).toContain(`\`${name}\``);
  });
});

describe.each(DOCUMENTS)('%s', (path) => {
  const document = text(path);

  it('has links that lead somewhere', () => {
    const broken = Array.from(document.matchAll(/\]\(([^)\s]+)\)/g), ([, target]) => target!).filter((target) => {
      if (/^[a-z]+:/.test(target)) return false;
      const [file, anchor] = target.split('#') as [string, string?];
      const found = file === '' ? path : join(dirname(path), file);
      if (!existsSync(found)) return true;
      return anchor !== undefined && !anchorsOf(text(found)).includes(anchor);
    });
    expect(broken).toEqual([]);
  });

  it('names files that are there', () => {
    const named = Array.from(
      document.matchAll(/`((?:[\w-]+\/)+[\w.-]+\.(?:ts|mjs|md|yaml|csv))`/g),
      ([, name]) => name!,
    );
    const areas = readdirSync('.');
    const missing = named
      .filter((name) => areas.includes(name.split('/')[0]!))
      .filter((name) => !existsSync(resolve(name)) && !existsSync(join(dirname(path), name)));
    expect(missing).toEqual([]);
  });

  it('shows commands that the command line understands', async () => {
    for (const words of commandsIn(document)) {
      const program = await createProgram();
      const refusal = await program.parseAsync(words, { from: 'user' }).then(
        () => undefined,
        // Help, which ends a command early, is no refusal.
        (error: CommanderError) => (error.exitCode === 0 ? undefined : error.message),
      );
      expect(refusal, `zigzag ${words.join(' ')}`).toBeUndefined();
    }
  });
});

/** The program as `cli/main.ts` puts it together, but every command does nothing. */
async function createProgram(): Promise<Command> {
  const program = new Command('zigzag');
  for (const file of readdirSync('cli/commands')) {
    const name = file.replace(/\.ts$/, '');
    const add = `add${name.replace(/(?:^|-)(\w)/g, (_, letter: string) => letter.toUpperCase())}`;
    const module = (await import(`../../cli/commands/${name}.js`)) as Record<string, (program: Command) => void>;
    expect(Object.keys(module), file).toContain(add);
    module[add]!(program);
  }
  for (const command of [program, ...everyCommand(program)]) {
    command.exitOverride().configureOutput({ writeErr: () => {}, writeOut: () => {} });
    if (command.commands.length === 0) command.action(() => {});
  }
  return program;
}

function everyCommand(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...everyCommand(child)]);
}

function leaves(program: Command): Command[] {
  return everyCommand(program).filter(({ commands }) => commands.length === 0);
}

function usage(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at; at = at.parent) names.unshift(at.name());
  const words = command.registeredArguments.map((argument) =>
    argument.required ? `<${argument.name()}>` : `[${argument.name()}]`,
  );
  return [...names, ...words].join(' ');
}

/** Flags, and the default where there is one that a person would want to know. */
function optionRow({ flags, defaultValue }: Command['options'][number]): string {
  const shown = defaultValue === undefined || typeof defaultValue === 'boolean' ? '' : String(defaultValue);
  return `${flags} ${shown}`.trim();
}

/** What follows each heading that matches, up to the next heading. */
function sectionsOf(document: string, heading: RegExp): Map<string, string> {
  const sections = new Map<string, string>();
  let current: string | undefined;
  for (const line of document.split('\n')) {
    if (line.startsWith('#')) current = heading.exec(line)?.[1];
    if (current !== undefined) sections.set(current, `${sections.get(current) ?? ''}${line}\n`);
  }
  return sections;
}

/** Words of each `npx zigzag ...`: alone on a line of code, where a comment may follow, or within a text. */
function commandsIn(document: string): string[][] {
  const lines = Array.from(document.matchAll(/^\s*(?:\$ )?(?:\w+=\S+ )*npx zigzag (.*)$/gm), ([, rest]) => rest!);
  const spans = Array.from(document.matchAll(/`npx zigzag ([^`]*)`/g), ([, rest]) => rest!);
  return [...lines, ...spans].map(shellWords).filter((words) => words.length > 0);
}

function shellWords(line: string): string[] {
  const words: string[] = [];
  for (const [word] of line.matchAll(/#.*|(?:"[^"]*"|'[^']*'|[^\s"'])+/g)) {
    // A comment ends the line, and so does whatever the shell does with the command.
    if (word.startsWith('#') || ['|', '>', '&', '&&'].includes(word)) break;
    words.push(word.replaceAll(/"([^"]*)"|'([^']*)'/g, (_, double, single) => double ?? single));
  }
  return words;
}

/** As GitHub makes them of headings. */
function anchorsOf(document: string): string[] {
  return Array.from(document.matchAll(/^#+ (.+)$/gm), ([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

function messageOf(act: () => unknown): string {
  try {
    act();
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}
