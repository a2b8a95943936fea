/** What runs can be searched by in the Temporal UI, and how a namespace learns of it. */
import type { Connection } from '@temporalio/client';
import { defineSearchAttributeKey, type SearchAttributePair, TypedSearchAttributes } from '@temporalio/common';
import type { Pipeline } from '../datasets/spec.js';

const runKey = defineSearchAttributeKey('ZigzagRun', 'KEYWORD');
const modelKey = defineSearchAttributeKey('ZigzagModel', 'KEYWORD');
const taskKey = defineSearchAttributeKey('ZigzagTask', 'KEYWORD_LIST');

/** Enumeration `IndexedValueType` of Temporal's API. */
const types = { KEYWORD: 2, KEYWORD_LIST: 7 } as const;
const attributes = { ZigzagRun: types.KEYWORD, ZigzagModel: types.KEYWORD, ZigzagTask: types.KEYWORD_LIST };

export function searchAttributesOf({ name, model, work }: Pipeline): TypedSearchAttributes {
  const pairs: SearchAttributePair[] = [
    { key: runKey, value: name },
    { key: modelKey, value: model },
  ];
  if (work.kind === 'tasks') pairs.push({ key: taskKey, value: work.tasks.map((task) => task.name) });
  return new TypedSearchAttributes(pairs);
}

/** @returns whether the namespace has them: where it is not ours to change, runs do without. */
export async function ensureSearchAttributes(connection: Connection, namespace: string): Promise<boolean> {
  try {
    const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
    const missing = Object.entries(attributes).filter(([name]) => !Object.hasOwn(customAttributes ?? {}, name));
    if (missing.length > 0) {
      await connection.operatorService.addSearchAttributes({
        namespace,
        searchAttributes: Object.fromEntries(missing),
      });
    }
    return true;
  } catch {
    return false;
  }
}
