import { expect, test } from '@jest/globals';
import { contradictionIn, todoOf } from './todo.ts';

const items = (n: number): [string, unknown][] => Array.from({ length: n }, (_, i) => [`k${i}`, i]);

test('without a row everything in the message is to do', () => {
  expect(todoOf({ items: items(3), attempt: 1 }, undefined)).toEqual([0, 1, 2]);
});

test('settled items are never run again, whatever the attempt', () => {
  expect(todoOf({ items: items(9), attempt: 9 }, { attempt: 1, states: ['a', 's', 'd', 'x', 'r', 'c', 'e', 'i', 'a'] })).toEqual([]);
});

test('failed items run again only for a later attempt than the stored one', () => {
  const states = ['a', 'f', 'p'] as const;
  expect(todoOf({ items: items(3), attempt: 1 }, { attempt: 1, states })).toEqual([2]);
  expect(todoOf({ items: items(3), attempt: 2 }, { attempt: 1, states })).toEqual([1, 2]);
});

test('positions say where items stand; positions without a result so far are to do', () => {
  expect(todoOf({ items: items(2), positions: [1, 3], attempt: 2 }, { attempt: 1, states: ['a', 'f', 'a', '-'] })).toEqual([0, 1]);
});

test('messages that contradict themselves are told apart', () => {
  expect(contradictionIn({ size: 2, items: items(2) })).toBeUndefined();
  expect(contradictionIn({ size: 5, items: items(2), positions: [1, 4] })).toBeUndefined();
  expect(contradictionIn({ size: 3, items: items(2) })).toMatch('2 items in a chunk of 3');
  expect(contradictionIn({ size: 3, items: items(2), positions: [1] })).toMatch('1 positions for 2 items');
  expect(contradictionIn({ size: 3, items: items(1), positions: [3] })).toMatch('position 3');
  expect(contradictionIn({ size: 3, items: items(2), positions: [1, 1] })).toMatch('ascending');
  // Nothing but the question what became of the chunk.
  expect(contradictionIn({ size: 3, items: [], positions: [] })).toBeUndefined();
});
