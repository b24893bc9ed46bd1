import { expect, test } from '@jest/globals';
import { retryDelay } from './retry-delay.ts';

const policy = { attempts: 5, backoff: 'exponential', base: 1_000, max: 10_000 } as const;

test('the ceiling doubles per attempt up to the maximum, and jitter takes a part of it', () => {
  expect([1, 2, 3, 4, 5, 9].map((attempt) => retryDelay(policy, attempt, 1))).toEqual([1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
  expect(retryDelay(policy, 3, 0.25)).toBe(1_000);
});

test('a Retry-After is waited for, but never beyond the maximum', () => {
  expect(retryDelay(policy, 1, 0, 3_000)).toBe(3_000);
  expect(retryDelay(policy, 1, 0, 60_000)).toBe(10_000);
});

test('fixed backoff has no jitter', () => {
  expect(retryDelay({ ...policy, backoff: 'fixed' }, 4, 0.1)).toBe(1_000);
});
