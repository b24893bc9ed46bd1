import { expect, test } from '@jest/globals';
import { MillraceError } from '@millrace/core';
import { describeError } from './describe-error.ts';
import { modeOf } from './open-platform.ts';
import type { PlatformConfig } from './platform-options.ts';

const config = (urls: Partial<PlatformConfig>) => urls as PlatformConfig;

test('without any URL everything runs embedded, with all of them on servers', () => {
  expect(modeOf(config({}))).toBe('embedded');
  expect(modeOf(config({ databaseUrl: 'postgres://a', amqpUrl: 'amqp://a', natsUrl: 'nats://a' }))).toBe('servers');
});

test('some URLs without the others are refused, naming both', () => {
  expect(() => modeOf(config({ amqpUrl: 'amqp://a' }))).toThrow(
    'MR2001 Invalid configuration: AMQP_URL set, but DATABASE_URL and NATS_URL missing',
  );
});

test('a URL that the process does not need may be missing', () => {
  expect(modeOf(config({ natsUrl: 'nats://a' }), { database: false, work: false })).toBe('servers');
  expect(() => modeOf(config({ databaseUrl: 'postgres://a' }), { database: false, work: false })).toThrow('NATS_URL missing');
});

test('an error is shown with the fix of its innermost known cause and no stack; an unforeseen one with its stack', () => {
  const cause = new MillraceError('MR1002', '"x"');
  const text = describeError(new MillraceError('MR2003', `job.ts: ${cause.message}`, { cause }));
  expect(text).toBe(`MR2003 A job file failed to load: job.ts: ${cause.message}\n  fix: ${cause.fix}`);
  expect(describeError(new TypeError('bug'))).toMatch(/TypeError: bug\n +at /);
});
