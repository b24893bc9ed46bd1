import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { codeOf, ERRORS, MillraceError } from './errors.ts';

test('docs/errors.md lists every code with its title and fix, and no other', () => {
  const page = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8');
  const listed = [...page.matchAll(/^\| (MR\d{4}) \| (.+?) \| (.+?) \|$/gm)].map(([, code, title, fix]) => [code, title, fix]);
  expect(listed).toEqual(Object.entries(ERRORS).map(([code, { title, fix }]) => [code, title, fix.replaceAll('|', '\\|')]));
});

test('an error is known by the code of whatever caused it', () => {
  const error = new Error('outer', { cause: new MillraceError('MR3001', 'db.example:5432') });
  expect(codeOf(error)).toBe('MR3001');
  expect(codeOf(Object.assign(new Error('x'), { code: 'ECONNREFUSED' }))).toBeUndefined();
});
