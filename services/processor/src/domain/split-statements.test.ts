import { expect, test } from '@jest/globals';
import { splitStatements } from './split-statements.ts';

test('semicolons inside strings, names, comments and function bodies do not end a statement', () => {
  expect(
    splitStatements(
      `create table a (b text default ';'); -- c; d\n/* e; */ select ";" ;\ncreate function f() returns int as $x$ begin; return 1; end $x$ language plpgsql;;`,
    ),
  ).toEqual([
    `create table a (b text default ';')`,
    'select ";"',
    'create function f() returns int as $x$ begin; return 1; end $x$ language plpgsql',
  ]);
});
