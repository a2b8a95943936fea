import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = process.cwd();
const AREAS = ['engine', 'datasets', 'workflows', 'activities', 'cli'] as const;
type Area = (typeof AREAS)[number];

interface Import {
  readonly from: string;
  /** A path within the project, or the name of a package. */
  readonly to: string;
  readonly typeOnly: boolean;
}

const files = AREAS.flatMap((area) => listSources(area));
const imports = files.flatMap(readImports);

/** What each part of the project may import of the others. */
const ALLOWED: Readonly<Record<Area, readonly Area[]>> = {
  engine: [],
  datasets: [],
  workflows: [],
  activities: ['engine', 'datasets', 'workflows'],
  cli: ['engine', 'datasets', 'activities', 'workflows'],
};

/** One door to each third party. */
const DOORS: Readonly<Record<string, RegExp>> = {
  'onnxruntime-node': /^engine\/backends\/onnx-session\.ts$/,
  highs: /^engine\/policy\/highs\.ts$/,
  protobufjs: /^engine\/backends\/onnx-graph\.ts$/,
  tokenizers: /^engine\/model\/tokenizer[\w-]*\.ts$/,
  'apache-arrow': /^datasets\/(shard|source)[\w-]*\.ts$/,
  hyparquet: /^datasets\/(output|source)[\w-]*\.ts$/,
  'hyparquet-writer': /^datasets\/output[\w-]*\.ts$/,
  'hyparquet-compressors': /^datasets\/(output|source)[\w-]*\.ts$/,
  '@huggingface/jinja': /^datasets\/prompt[\w-]*\.ts$/,
  '@huggingface/hub': /^cli\/hub\.ts$/,
  '@temporalio/workflow': /^workflows\//,
  '@temporalio/': /^(workflows|activities|cli)\//,
  commander: /^cli\//,
};

describe('the parts of the project', () => {
  it('import each other only as the design says; workflows import types only', () => {
    expect(imports.length).toBeGreaterThan(files.length);
    const bad = imports.filter(({ from, to, typeOnly }) => {
      const [source, target] = [areaOf(from), areaOf(to)];
      if (!source || !target || source === target) return false;
      return source === 'workflows' ? !typeOnly : !ALLOWED[source].includes(target);
    });
    expect(bad).toEqual([]);
  });

  it('reach each third party through its own door', () => {
    const bad = imports.filter(({ from, to }) =>
      Object.entries(DOORS).some(([name, door]) => matchesPackage(to, name) && !door.test(from)),
    );
    expect(bad).toEqual([]);
  });

  it('keep policy, model and schedule free of any particular backend', () => {
    const bad = imports.filter(
      ({ from, to, typeOnly }) =>
        /^engine\/(policy|model|schedule|memory)\//.test(from) &&
        /^engine\/backends\/(onnx|reference)/.test(to) &&
        !typeOnly,
    );
    expect(bad).toEqual([]);
  });

  it('have no import cycle', () => {
    expect(findCycle(imports.filter(({ typeOnly }) => !typeOnly))).toBeUndefined();
  });

  it('are files of at most 320 lines', () => {
    const long = files.map((file) => [file, readFileSync(join(ROOT, file), 'utf8').split('\n').length] as const);
    expect(long.filter(([, lines]) => lines > 320)).toEqual([]);
  });
});

function listSources(directory: string): string[] {
  return readdirSync(join(ROOT, directory)).flatMap((name) => {
    const path = `${directory}/${name}`;
    if (statSync(join(ROOT, path)).isDirectory()) return listSources(path);
    return name.endsWith('.ts') ? [path] : [];
  });
}

function readImports(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8');
  const statements = text.matchAll(/^(?:import|export)\s+(type\s+)?([^;'"]*?from\s+)?['"]([^'"]+)['"]/gms);
  return Array.from(statements, ([, type, , target]) => {
    const local = target!.startsWith('.');
    const to = local ? relative(ROOT, join(ROOT, dirname(file), target!)).replace(/\.js$/, '.ts') : target!;
    return { from: file, to, typeOnly: type !== undefined };
  });
}

function areaOf(path: string): Area | undefined {
  return AREAS.find((area) => path.startsWith(`${area}/`));
}

function matchesPackage(target: string, name: string): boolean {
  return name.endsWith('/')
    ? target.startsWith(name) && !matchesPackage(target, '@temporalio/workflow')
    : target === name;
}

/** Files of one cycle, or undefined. */
function findCycle(edges: readonly Import[]): string[] | undefined {
  const next = new Map<string, string[]>();
  for (const { from, to } of edges) next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const target of next.get(file) ?? []) {
      const cycle = visit(target, [...path, file]);
      if (cycle) return cycle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of next.keys()) {
    const cycle = visit(file, []);
    if (cycle) return cycle;
  }
  return undefined;
}
