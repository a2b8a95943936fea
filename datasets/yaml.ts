/**
 * YAML that remembers where each key stands, so that an error can name the file and the line.
 */
import { readFileSync } from 'node:fs';
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parse, parseDocument, visit } from 'yaml';
import { InputError } from './errors.js';

/** Keys and list positions from the top of the file down to a value. */
export type KeyPath = readonly (string | number)[];

export interface YamlFile {
  readonly path: string;
  readonly value: unknown;
  /** `file:line` of a key, or of the nearest key above it that is there. */
  whereIs(keys: KeyPath): string;
}

/** @throws InputError where the file is missing, is not YAML, or asks for Python code by a `!function` tag. */
export function readYaml(path: string): YamlFile {
  const lines = new LineCounter();
  const document = parseDocument(readText(path), { lineCounter: lines, prettyErrors: false });
  const lineAt = (offset: number | undefined) => lines.linePos(offset ?? 0).line;
  const [problem] = document.errors;
  if (problem !== undefined)
    throw new InputError(`${path}:${lineAt(problem.pos[0])}: not valid YAML: ${problem.message}`);
  refuseTags(document, (node) => `${path}:${lineAt(node.range?.[0])}`);
  return {
    path,
    value: document.toJS(),
    whereIs: (keys) => `${path}:${lineAt(offsetOf(document.contents, keys))}`,
  };
}

/** The value that `text` would have in a YAML file: `4` is a number, `[a, b]` a list. */
export function parseYamlValue(text: string): unknown {
  return parse(text);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT') throw new InputError(`${path}: no such file; give the path of a YAML file that is there`);
    throw new InputError(`${path}: cannot be read (${code}); give a YAML file that may be read`, { cause: error });
  }
}

function refuseTags(document: Document, where: (node: Node) => string): void {
  visit(document, {
    Node: (_, node) => {
      if (node.tag?.startsWith('!') !== true) return;
      throw new InputError(
        `${where(node)}: the tag ${node.tag} runs code, which is not supported; write the value itself`,
      );
    },
  });
}

function offsetOf(contents: unknown, keys: KeyPath): number | undefined {
  let offset: number | undefined;
  let node = contents;
  for (const key of keys) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      if (pair === undefined) break;
      offset = isScalar(pair.key) ? pair.key.range?.[0] : offset;
      node = pair.value;
    } else if (isSeq(node)) {
      const item = node.items[Number(key)];
      if (item === undefined) break;
      offset = (item as Node).range?.[0] ?? offset;
      node = item;
    } else break;
  }
  return offset;
}
