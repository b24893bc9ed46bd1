import { expect, test } from '@jest/globals';
import { MillraceError } from '@millrace/core';
import type { Logger } from '@millrace/runtime';
import { Trouble } from './trouble.ts';

function troubled(random = () => 1) {
  const lines: string[] = [];
  const say =
    (level: string) =>
    (_: unknown, text = '') =>
      lines.push(`${level} ${text}`);
  const log: Logger = { debug() {}, info: say('info'), warn: say('warn'), error: say('error'), child: () => log };
  return { trouble: new Trouble('planning', random, log), lines };
}

test('pauses double from half a second up to five, and begin anew after a success', () => {
  const { trouble } = troubled();
  const pauses = () => Array.from({ length: 6 }, () => trouble.met(new Error('away')));
  expect(pauses()).toEqual([500, 1_000, 2_000, 4_000, 5_000, 5_000]);
  trouble.over();
  expect(trouble.met(new Error('away'))).toBe(500);
});

test('pauses are shortened by up to a half, so that planners do not all try at once', () => {
  expect(troubled(() => 0).trouble.met(new Error('away'))).toBe(250);
  expect(troubled(() => 0.5).trouble.met(new Error('away'))).toBe(375);
});

test('each kind of error is told once, and so is the end of the trouble', () => {
  const { trouble, lines } = troubled();
  trouble.over();
  for (let i = 0; i < 9; i++) {
    trouble.met(new MillraceError('MR3001', `host a, try ${i}`));
    trouble.met(new Error('the database is starting up'));
  }
  trouble.over();
  trouble.over();
  trouble.met(new MillraceError('MR3001', 'host a'));
  const failed = 'warn planning failed; trying again';
  expect(lines).toEqual([failed, failed, 'info planning works again', failed]);
});
