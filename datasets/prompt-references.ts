/**
 * What a template refers to: the columns it needs, the filters it uses, and which of its expressions are written out.
 */

/** A node of a parsed template, whatever its kind. */
export interface TemplateNode {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface References {
  /** Names without which the template cannot be rendered. */
  readonly required: readonly string[];
  /** All names: those asked about by `is defined` or given a default as well. */
  readonly names: ReadonlySet<string>;
  readonly unknownFilters: readonly { readonly name: string; readonly known: readonly string[] }[];
  /** Methods called in a way that the interpreter would take for another. */
  readonly unsupportedCalls: readonly string[];
  /** Nodes whose value becomes text of the prompt. */
  readonly outputs: ReadonlySet<TemplateNode>;
}

/** Those of the interpreter. */
const knownFilters = [
  'abs',
  'bool',
  'capitalize',
  'default',
  'first',
  'float',
  'indent',
  'int',
  'items',
  'join',
  'last',
  'length',
  'list',
  'lower',
  'map',
  'rejectattr',
  'replace',
  'reverse',
  'safe',
  'selectattr',
  'sort',
  'string',
  'title',
  'tojson',
  'trim',
  'unique',
  'upper',
];
const builtIns = ['true', 'false', 'none', 'True', 'False', 'None', 'range', 'namespace', 'loop', 'caller'];
const statements = [
  'Program',
  'If',
  'For',
  'Set',
  'Macro',
  'Comment',
  'Break',
  'Continue',
  'CallStatement',
  'FilterStatement',
];
const bodies = ['body', 'alternate', 'defaultBlock'];

/** Names that the template sets itself count as set everywhere in it. */
export function referencesOf(program: TemplateNode): References {
  const found = {
    used: new Set<string>(),
    optional: new Set<string>(),
    assigned: new Set(builtIns),
    filters: new Set<string>(),
    unsupportedCalls: [] as string[],
    outputs: new Set<TemplateNode>(),
  };
  visit(program, found);
  const names = [...found.used].filter((name) => !found.assigned.has(name));
  return {
    required: names.filter((name) => !found.optional.has(name)),
    names: new Set([...names, ...found.used]),
    unknownFilters: [...found.filters]
      .filter((name) => !knownFilters.includes(name))
      .map((name) => ({ name, known: knownFilters })),
    unsupportedCalls: found.unsupportedCalls,
    outputs: found.outputs,
  };
}

/** Whether a node stands for a value, rather than for something to do. */
export function isExpression(node: TemplateNode): boolean {
  return !statements.includes(node.type);
}

interface Found {
  readonly used: Set<string>;
  readonly optional: Set<string>;
  readonly assigned: Set<string>;
  readonly filters: Set<string>;
  readonly unsupportedCalls: string[];
  readonly outputs: Set<TemplateNode>;
}

function visit(node: TemplateNode, found: Found): void {
  for (const key of statements.includes(node.type) ? bodies : []) {
    for (const child of nodesIn(node[key])) if (!statements.includes(child.type)) found.outputs.add(child);
  }
  switch (node.type) {
    case 'Identifier':
      found.used.add(String(node.value));
      return;
    case 'MemberExpression':
      visitAll(node.computed === true ? [node.object, node.property] : [node.object], found);
      return;
    case 'KeywordArgumentExpression':
      visitAll([node.value], found);
      return;
    case 'TestExpression':
      if (['defined', 'undefined'].includes(String((node.test as TemplateNode).value)))
        markOptional(node.operand as TemplateNode, found);
      visitAll([node.operand], found);
      return;
    case 'FilterExpression':
    case 'FilterStatement':
      visitFilter(node, found);
      return;
    case 'CallExpression':
      checkCall(node, found);
      break;
    case 'Set':
    case 'For':
    case 'Macro':
      for (const target of [node.assignee, node.loopvar, node.name, node.args]) assign(target, found);
      break;
    case 'CallStatement':
      assign(node.callerArgs, found);
      break;
  }
  // An operator is a token, and "in" one that looks like a name.
  const { operator: _, ...parts } = node;
  visitAll(Object.values(parts), found);
}

/** The interpreter strips blanks whatever characters it is told to strip. */
function checkCall(node: TemplateNode, found: Found): void {
  const { property, computed } = node.callee as TemplateNode & { readonly property?: TemplateNode };
  const method = computed === false ? String(property?.value) : '';
  if (['strip', 'lstrip', 'rstrip'].includes(method) && nodesIn(node.args).length > 0)
    found.unsupportedCalls.push(`${method}() with an argument`);
}

function visitFilter(node: TemplateNode, found: Found): void {
  const filter = node.filter as TemplateNode;
  const name = filter.type === 'CallExpression' ? (filter.callee as TemplateNode) : filter;
  found.filters.add(String(name.value));
  if (name.value === 'default') markOptional(node.operand as TemplateNode | undefined, found);
  visitAll([node.operand, node.body, filter.type === 'CallExpression' ? filter.args : []], found);
}

function visitAll(values: readonly unknown[], found: Found): void {
  for (const value of values) for (const child of nodesIn(value)) visit(child, found);
}

function assign(target: unknown, found: Found): void {
  for (const node of nodesIn(target)) {
    if (node.type === 'Identifier') found.assigned.add(String(node.value));
    else if (node.type === 'TupleLiteral') assign(node.value, found);
    else if (node.type === 'KeywordArgumentExpression') assign(node.key, found);
  }
}

function markOptional(node: TemplateNode | undefined, found: Found): void {
  if (node?.type === 'Identifier') found.optional.add(String(node.value));
}

/** The nodes in a property: itself, those of a list, or those of the map of an object literal. */
function nodesIn(value: unknown): TemplateNode[] {
  if (Array.isArray(value)) return value.flatMap(nodesIn);
  if (value instanceof Map) return [...value].flat().flatMap(nodesIn);
  return typeof value === 'object' && value !== null && 'type' in value ? [value as TemplateNode] : [];
}
