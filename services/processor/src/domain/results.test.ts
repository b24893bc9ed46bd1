import { expect, test } from '@jest/globals';
import { type Chunk, encodeStates } from '@millrace/core';
import { fail, mergeResults, noResults, stateAfter } from './results.ts';

const chunk = (over: Partial<Chunk> = {}): Chunk => ({
  runId: 'j@manual:1',
  job: 'j',
  generation: 0,
  seq: 0,
  attempt: 1,
  size: 3,
  openedAt: 0,
  tickAt: 0,
  tick: 'manual:1',
  params: {},
  items: [
    ['a', 1],
    ['b', 2],
    ['c', 3],
  ],
  ...over,
});
const transient = (message: string, retryAfter?: number) => ({ class: 'transient' as const, message, retryAfter });

test('a transient failure stays open while attempts are left, everything else is final', () => {
  expect([
    stateAfter({ class: 'transient' }, 1, 2),
    stateAfter({ class: 'transient' }, 2, 2),
    stateAfter({ class: 'timeout' }, 1, 2),
  ]).toEqual(['f', 'x', 'f']);
  expect([
    stateAfter({ class: 'permanent' }, 1, 2),
    stateAfter({ class: 'commit' }, 1, 2),
    stateAfter({ class: 'rejected' }, 1, 2),
  ]).toEqual(['x', 'x', 'r']);
});

test('results become states, failures by position, skip counts and the longest wait', () => {
  const results = noResults([0, 1, 2], 3);
  results.states[0] = 's';
  results.skipReasons.set(0, 'toString');
  fail(results, 1, transient('busy 1', 5), 1, 3);
  fail(results, 2, transient('busy 2', 9), 1, 3);
  const settled = mergeResults(chunk(), undefined, results, [0, 1, 2]);
  expect(encodeStates(settled.states)).toBe('1s2f');
  expect(settled.failures.map((f) => [f.position, f.key, f.message])).toEqual([
    [1, 'b', 'busy 1'],
    [2, 'c', 'busy 2'],
  ]);
  expect(settled.failures[0]?.fingerprint).toBe(settled.failures[1]?.fingerprint);
  expect(settled.skips).toEqual({ toString: 1 });
  expect(settled.retryAfter).toBe(9);
});

test('a later attempt replaces the failures of its items and keeps the others', () => {
  const first = noResults([0, 1, 2], 3);
  first.states[0] = 'a';
  fail(first, 1, transient('one', 7), 1, 3);
  fail(first, 2, { class: 'permanent', message: 'two', retryAfter: undefined }, 1, 3);
  const before = mergeResults(chunk(), undefined, first, [0, 1, 2]);
  const second = noResults([0], 1);
  second.states[0] = 'a';
  const after = mergeResults(chunk({ attempt: 2, positions: [1], items: [['b', 2]] }), before, second, [0]);
  expect(encodeStates(after.states)).toBe('2a1x');
  expect(after.failures.map((f) => f.key)).toEqual(['c']);
  expect(after).toMatchObject({ attempt: 2, retryAfter: undefined });
});

test('positions that are not in the message have no state in a new generation', () => {
  const results = noResults([0], 1);
  results.states[0] = 'a';
  const settled = mergeResults(chunk({ generation: 1, positions: [2], items: [['c', 3]] }), undefined, results, [0]);
  expect(encodeStates(settled.states)).toBe('2-1a');
});
