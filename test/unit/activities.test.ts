import { setTimeout as sleep } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { openEnginePool } from '../../activities/engine-pool.js';
import { fromFailure, MAX_ATTEMPTS, toFailure } from '../../activities/failures.js';
import { answersOf, requestOf, rowSeed } from '../../activities/rows.js';
import { InputError } from '../../datasets/errors.js';
import type { Ask, PromptRow } from '../../datasets/rows.js';
import { EngineError } from '../../engine/errors.js';
import type { EngineOptions } from '../../engine/requests.js';
import { openHashEngine } from '../support/hash-engine.js';

describe('a failure', () => {
  it.each([
    ['a file of the user', new InputError('no such file'), 1, 'InputError', true],
    ['a damaged model', new EngineError('BAD_WEIGHTS', 'cut short'), 1, 'BAD_WEIGHTS', true],
    ['too little memory', new EngineError('OUT_OF_MEMORY', 'need 9 B'), 1, 'OUT_OF_MEMORY', true],
    ['a backend, at first', new EngineError('BACKEND', 'hiccup'), 1, 'BACKEND', false],
    ['a backend, again and again', new EngineError('BACKEND', 'hiccup'), MAX_ATTEMPTS, 'BACKEND', true],
    ['anything else, at first', new TypeError('x is not a function'), 1, 'TypeError', false],
    ['anything else, again and again', new TypeError('x is not a function'), MAX_ATTEMPTS, 'TypeError', true],
  ])('of %s', (_, error, attempt, type, nonRetryable) => {
    expect(toFailure(error, attempt)).toMatchObject({ type, nonRetryable, message: error.message });
  });

  it.each([
    ['bad input', new InputError('lines.csv:3: no value')],
    ['an error of the engine', new EngineError('OUT_OF_MEMORY', 'need 9 B', { needBytes: 9 })],
  ])('is %s again for the command line', (_, error) => {
    const back = fromFailure(toFailure(error, 1) as ApplicationFailure);
    expect(back).toBeInstanceOf(error.constructor);
    expect(back).toMatchObject({ ...error, message: error.message });
  });

  it('that is one already stays as it is', () => {
    const failure = ApplicationFailure.create({ message: 'as it is' });
    expect(toFailure(failure, 1)).toBe(failure);
  });
});

describe('a row', () => {
  const ask: Ask = { kind: 'generate', maxNewTokens: 4, stop: ['.'], temperature: 1, topK: 5, topP: 0.5, seed: 7 };

  it('samples with a seed of its own, the same in every run', () => {
    // First four bytes, little-endian, of sha256("7/story/3"), by coreutils.
    expect(rowSeed(7, 'story/3')).toBe(2368080546);
    expect(new Set(Array.from({ length: 1000 }, (_, i) => rowSeed(7, `story/${i}`))).size).toBe(1000);
    expect(rowSeed(8, 'story/3')).not.toBe(rowSeed(7, 'story/3'));
  });

  it('is asked as its shard says', () => {
    expect(requestOf(row({ rowId: 'story/3' }), ask)).toEqual({
      kind: 'generate',
      id: 'story/3',
      prompt: 'Once',
      maxNewTokens: 4,
      stop: ['.'],
      sampling: { temperature: 1, topK: 5, topP: 0.5, seed: 2368080546 },
    });
    expect(requestOf(row({ options: ['a', 'b'] }), { kind: 'score' })).toEqual({
      kind: 'score',
      id: 'story/0',
      context: 'Once',
      options: ['a', 'b'],
    });
  });

  it('keeps its place, whether it was answered, scored, or could not be asked', () => {
    const rows = [
      row({ rowId: 'a', error: 'line 3 is no JSON' }),
      row({ rowId: 'b' }),
      row({ rowId: 'c' }),
      row({ rowId: 'd' }),
    ];
    const answers = answersOf(rows, [
      {
        kind: 'score',
        id: 'd',
        promptTokens: 5,
        options: [-1, -2].map((logprob) => ({ logprob, tokens: 1, isGreedy: false })),
      },
      {
        kind: 'generate',
        id: 'c',
        text: '',
        tokens: [],
        finishReason: 'error',
        promptTokens: 0,
        logprobs: [],
        error: 'too long',
      },
      {
        kind: 'generate',
        id: 'b',
        text: 'upon',
        tokens: [4, 2],
        finishReason: 'stop',
        promptTokens: 2,
        logprobs: [-0.5, -0.25],
      },
    ]);
    expect(answers.map(({ rowId }) => rowId)).toEqual(['a', 'b', 'c', 'd']);
    expect(answers[0]).toMatchObject({
      finishReason: 'error',
      error: 'line 3 is no JSON',
      completion: null,
      logprob: null,
    });
    expect(answers[1]).toMatchObject({
      finishReason: 'stop',
      completion: 'upon',
      completionTokens: 2,
      logprob: -0.75,
      error: null,
    });
    expect(answers[2]).toMatchObject({ finishReason: 'error', error: 'too long', completion: null });
    expect(answers[3]).toMatchObject({
      optionLogprobs: [-1, -2],
      completion: null,
      logprob: null,
      error: null,
      promptTokens: 5,
    });
  });
});

describe('the engine of a device', () => {
  const options = (model: string): EngineOptions => ({ model, backend: 'onnx' });

  it('stays open between shards, and is closed before another model is opened', async () => {
    const { events, pool } = openRecorded();
    for (const model of ['a', 'a', 'b']) await pool.use(options(model), async () => events.push(`use ${model}`));
    await pool.close();
    expect(events).toEqual(['open a', 'use a', 'use a', 'close a', 'open b', 'use b', 'close b']);
  });

  it('is replaced after it broke, and kept after any other error', async () => {
    const { events, pool } = openRecorded();
    const fail = (error: Error) => pool.use(options('a'), () => Promise.reject(error)).catch(() => undefined);
    await fail(new EngineError('BAD_INPUT', 'no such token'));
    await fail(new EngineError('BACKEND', 'broken'));
    await pool.use(options('a'), async () => undefined);
    await pool.close();
    expect(events).toEqual(['open a', 'close a', 'open a', 'close a']);
  });

  it('gives its memory back when the work is stopped', async () => {
    const { events, pool } = openRecorded();
    const stopped = () => Promise.reject(new EngineError('CANCELLED', 'the run was cancelled'));
    await expect(pool.use(options('a'), stopped)).rejects.toThrow('cancelled');
    expect(events).toEqual(['open a', 'close a']);
  });

  it('gives its memory back when nobody asks for it', async () => {
    const { events, pool } = openRecorded(20);
    await pool.use(options('a'), () => sleep(60));
    expect(events).toEqual(['open a']);
    while (events.length < 2) await sleep(10);
    expect(events).toEqual(['open a', 'close a']);
  });

  it('that could not be opened is tried again', async () => {
    let attempts = 0;
    const pool = openEnginePool(async () => {
      attempts += 1;
      if (attempts === 1) throw new EngineError('BAD_WEIGHTS', 'still being copied');
      return openHashEngine();
    });
    await expect(pool.use(options('a'), async () => 1)).rejects.toThrow('still being copied');
    await expect(pool.use(options('a'), async () => 2)).resolves.toBe(2);
    await pool.close();
  });

  function openRecorded(idleMilliseconds?: number) {
    const events: string[] = [];
    const pool = openEnginePool(async ({ model }) => {
      events.push(`open ${model}`);
      return openHashEngine({ onClose: () => events.push(`close ${model}`) });
    }, idleMilliseconds);
    return { events, pool };
  }
});

function row(values: Partial<PromptRow>): PromptRow {
  return {
    rowId: 'story/0',
    task: 'story',
    prompt: 'Once',
    promptSha256: '',
    promptTokens: 1,
    options: null,
    target: null,
    columns: {},
    error: null,
    ...values,
  };
}
