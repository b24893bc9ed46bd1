import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { SCENARIOS } from './chaos/scenarios.ts';

const root = join(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/guarantees.md'), 'utf8');

test('every command and every test that the page of guarantees names exists, and every scenario is named', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
  const commands = [...page.matchAll(/`npm (?:run )?([a-z]+)[^`]*`/g)].map((match) => match[1] as string);
  expect(commands.filter((command) => !(command in scripts))).toEqual([]);
  const files = [...page.matchAll(/`([a-z]+\/[^`\s]+\.ts)`|\]\(\.\.\/([^)]+)\)/g)].map((match) => (match[1] ?? match[2]) as string);
  expect(files.length).toBeGreaterThan(10);
  expect(files.filter((file) => !existsSync(join(root, file)))).toEqual([]);
  const named = new Set([...page.matchAll(/--scenario ([a-z-]+)/g)].map((match) => match[1]));
  expect([...named].sort()).toEqual(Object.keys(SCENARIOS).sort());
});
