import { expect, it } from 'vitest';
import { readAhead } from '../../engine/schedule/read-ahead.js';

function recorded() {
  const begun: number[] = [];
  const read = async (item: number) => {
    begun.push(item);
    if (item === 99) throw new Error('the disk is gone');
    return item * 10;
  };
  return { begun, read };
}

it('reads one item ahead of the one that is in use, in order', async () => {
  const { begun, read } = recorded();
  const next = readAhead([1, 2, 3], read, true);
  expect(begun).toEqual([1]);
  expect(await next()).toBe(10);
  expect(begun).toEqual([1, 2]);
  expect([await next(), await next()]).toEqual([20, 30]);
  expect(begun).toEqual([1, 2, 3]);
});

it('reads nothing ahead in the serial loop', async () => {
  const { begun, read } = recorded();
  const next = readAhead([1, 2], read, false);
  expect(begun).toEqual([]);
  expect(await next()).toBe(10);
  expect(begun).toEqual([1]);
});

it('hands an error to whoever asks for that item, not before', async () => {
  const next = readAhead([1, 99], recorded().read, true);
  expect(await next()).toBe(10);
  await new Promise((resolve) => setImmediate(resolve));
  await expect(next()).rejects.toThrow('the disk is gone');
});
