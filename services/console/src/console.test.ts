import { expect, test } from '@jest/globals';
import { hostsOf } from './console.ts';

test('on loopback only the names of this machine are served, in a container the names it was given too, and any where none were', () => {
  expect(hostsOf({ host: '127.0.0.1' })).toContain('localhost');
  expect(hostsOf({ host: '127.0.0.1' })).not.toContain('console');
  expect(hostsOf({ host: '0.0.0.0', names: 'console, jobs.example.org' })).toEqual(
    expect.arrayContaining(['localhost', '127.0.0.1', 'console', 'jobs.example.org']),
  );
  expect(hostsOf({ host: '0.0.0.0' })).toBeUndefined();
});
