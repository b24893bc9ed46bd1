import { expect, test } from '@jest/globals';
import { fingerprintOf, normaliseMessage } from './fingerprint.ts';

test('numbers, uuids, hex and quoted texts become placeholders', () => {
  expect(normaliseMessage('Key (id)=(4711) already exists')).toBe('Key (id)=(<n>) already exists');
  expect(normaliseMessage('no row 0a7e3c52-7a1b-4d0c-9e55-1f2e3d4c5b6a')).toBe('no row <uuid>');
  expect(normaliseMessage('commit deadbeef0123 at 0xFF')).toBe('commit <hex> at <hex>');
  expect(normaliseMessage(`field "name" of 'Ada'`)).toBe('field <text> of <text>');
  expect(normaliseMessage('took 1,204.5 ms')).toBe('took <n> ms');
});

test('failures of one cause share a fingerprint; another job, class or text has another', () => {
  const a = fingerprintOf('sync', 'transient', 'timeout after 30 ms for "ada"');
  expect(fingerprintOf('sync', 'transient', 'timeout after 4 ms for "bob"')).toEqual(a);
  const others = [
    fingerprintOf('other', 'transient', 'timeout after 30 ms for "ada"'),
    fingerprintOf('sync', 'permanent', 'timeout after 30 ms for "ada"'),
    fingerprintOf('sync', 'transient', 'refused'),
  ];
  for (const other of others) expect(other.fingerprint).not.toBe(a.fingerprint);
});

test('the title is the first line, at most 120 characters, keeps an error code, and is never empty', () => {
  expect(fingerprintOf('j', 'transient', 'first 1\nat stack').title).toBe('first <n>');
  expect(fingerprintOf('j', 'transient', 'x '.repeat(200)).title).toHaveLength(120);
  expect(fingerprintOf('j', 'timeout', 'MR1014 Item timed out: no result after 50 ms').title).toBe(
    'MR1014 Item timed out: no result after <n> ms',
  );
  expect(fingerprintOf('j', 'rejected', '').title).toBe('rejected');
});
