import { expect, test } from '@jest/globals';
import { dependenciesMet } from './dependencies-met.ts';

test('a fan-in is met once every dependency has closed with an accepted verdict', () => {
  const after = [
    { job: 'a', on: 'acceptable' },
    { job: 'b', on: 'closed' },
  ] as const;
  expect(dependenciesMet(after, new Map([['a', 'partial']]))).toBe(false);
  expect(
    dependenciesMet(
      after,
      new Map([
        ['a', 'partial'],
        ['b', null],
      ]),
    ),
  ).toBe(false);
  expect(
    dependenciesMet(
      after,
      new Map([
        ['a', 'partial'],
        ['b', 'failed'],
      ]),
    ),
  ).toBe(true);
  expect(
    dependenciesMet(
      after,
      new Map([
        ['a', 'failed'],
        ['b', 'failed'],
      ]),
    ),
  ).toBe(false);
});

test('success and failure accept only their own verdict', () => {
  expect(dependenciesMet([{ job: 'a', on: 'success' }], new Map([['a', 'partial']]))).toBe(false);
  expect(dependenciesMet([{ job: 'a', on: 'failure' }], new Map([['a', 'failed']]))).toBe(true);
});
