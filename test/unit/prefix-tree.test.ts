import { describe, expect, it } from 'vitest';
import { PrefixTree } from '../../engine/schedule/prefix-tree.js';
import { GenerateSequence } from '../../engine/sequence.js';

/** Tokens of one kind after another: `a20 b30` is twenty a, then thirty b. */
function sequence(text: string): GenerateSequence {
  const prompt = text.split(' ').flatMap((run) => Array<number>(Number(run.slice(1))).fill(run.charCodeAt(0)));
  const sampling = { temperature: 0, topK: 0, topP: 1, seed: 0 };
  const request = { kind: 'generate', id: text, prompt, maxNewTokens: 1, stop: [], sampling } as const;
  return new GenerateSequence(request, prompt, { eosTokenIds: [], maxPositions: 1000 }, undefined);
}

/** By sequence: its nodes, from the first positions on, as `start-end xWAITING`. */
function pathsOf(texts: readonly string[], entered: readonly string[] = []): Record<string, string> {
  const sequences = texts.map(sequence);
  const tree = new PrefixTree(sequences);
  for (const text of entered) tree.enter(sequences[texts.indexOf(text)]!);
  const nodes = (at: GenerateSequence) => tree.path(at).map(({ start, end, waiting }) => `${start}-${end} x${waiting}`);
  return Object.fromEntries(sequences.map((at, i) => [texts[i]!, nodes(at).join(', ')]));
}

describe('a tree of beginnings', () => {
  it.each<[string, string[], Record<string, string>]>([
    ['nothing in common', ['a30', 'b30'], { a30: '', b30: '' }],
    ['too little in common', ['a15 b30', 'a15 c30'], { 'a15 b30': '', 'a15 c30': '' }],
    [
      'an instruction, and on it examples of some',
      ['a20 b30 c9', 'a20 d9', 'a20 b30 e9', 'a20 f40'],
      {
        'a20 b30 c9': '0-20 x4, 20-50 x2',
        'a20 b30 e9': '0-20 x4, 20-50 x2',
        'a20 d9': '0-20 x4',
        'a20 f40': '0-20 x4',
      },
    ],
    [
      'forks a few tokens behind one another, which are one node',
      ['a20 b5 c9', 'a20 b5 d9', 'a20 e9'],
      { 'a20 b5 c9': '0-20 x3', 'a20 b5 d9': '0-20 x3', 'a20 e9': '0-20 x3' },
    ],
    [
      'a prompt that others begin with, which computes its last rows itself',
      ['a40', 'a40 b9', 'a40 c9', 'a60'],
      { a40: '0-40 x4', 'a40 b9': '0-40 x4', 'a40 c9': '0-40 x4', a60: '0-40 x4' },
    ],
    ['equal prompts', ['a40 b2', 'a40 b2'], { 'a40 b2': '0-42 x2' }],
  ])('%s', (_, texts, expected) => expect(pathsOf(texts)).toEqual(expected));

  it('counts who still waits', () => {
    const texts = ['a20 b30 c9', 'a20 d9', 'a20 b30 e9'];
    expect(pathsOf(texts, ['a20 b30 c9'])['a20 b30 e9']).toBe('0-20 x2, 20-50 x1');
    expect(pathsOf(texts, ['a20 d9', 'a20 b30 e9'])['a20 b30 c9']).toBe('0-20 x1, 20-50 x1');
  });

  it('takes thousands of prompts, each the beginning of the next', () => {
    const texts = Array.from({ length: 300 }, (_, i) => `a${20 * (i + 1)}`);
    const paths = pathsOf(texts);
    expect(paths.a20).toBe('0-20 x300');
    expect(paths.a6000!.split(', ')).toHaveLength(299);
  });
});
