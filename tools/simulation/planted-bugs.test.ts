import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { PLANTED_BUGS } from './planted-bugs.ts';

const ROOT = join(import.meta.dirname, '..', '..');

test('every patch finds its place in the source once: a bug that can no longer be planted proves nothing', () => {
  const lost = PLANTED_BUGS.flatMap(({ name, patches = [] }) =>
    patches
      .filter(({ file, find }) => readFileSync(join(ROOT, file), 'utf8').split(find).length !== 2)
      .map(({ file }) => `${name}: ${file}`),
  );
  expect(lost).toEqual([]);
});

test('bugs without a patch are known to a simulated store, and all of them stand in docs/simulation.md', () => {
  const stores = ['plan-tables', 'plan-admission', 'plan-window', 'ledger-tables', 'inbox-tables', 'stores', 'work-broker']
    .map((name) => readFileSync(join(import.meta.dirname, `${name}.ts`), 'utf8'))
    .join('\n');
  const unknown = PLANTED_BUGS.filter(({ name, patches }) => !patches && !stores.includes(`'${name}'`));
  expect(unknown).toEqual([]);
  const page = readFileSync(join(ROOT, 'docs', 'simulation.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \| (.+) \|$/gm)].map(([, name, what]) => ({ name, what }));
  expect(rows).toEqual(PLANTED_BUGS.map(({ name, what }) => ({ name, what })));
  expect(PLANTED_BUGS.length).toBeGreaterThanOrEqual(20);
});
