import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { PLANTED_BUGS } from './planted-bugs.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** `npm run sim -- …`; rejects with what it printed when it fails. */
function sim(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'tools/simulation/cli.ts', ...args], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
    child.on('close', (code) => (code === 0 ? resolve(output) : reject(new Error(output))));
  });
}

test('800 seeds: nothing lost, nothing doubled, nothing stuck, and every fault struck at every place', async () => {
  const output = await sim('--seeds', '800');
  console.log(output);
  expect(output).toContain('800 seeds');
  expect(output).toContain('0 lost, 0 doubled, 0 stuck; every fault struck at every place');
}, 600_000);

test('the same seed gives the same event log, another one another', async () => {
  const hashOf = async (seed: number) => /hash ([0-9a-f]{16})/.exec(await sim('--seed', String(seed)))?.[1];
  const first = await hashOf(13);
  expect(first).toMatch(/^[0-9a-f]{16}$/);
  expect(await hashOf(13)).toBe(first);
  expect(await hashOf(27)).not.toBe(first);
}, 120_000);

test('seeds give the same logs however they are shared among processes', async () => {
  const hashOf = async (...args: string[]) => BigInt(`0x${/hash of all: ([0-9a-f]{16})/.exec(await sim(...args, '--least', '0'))?.[1]}`);
  const [whole, first, second] = [
    await hashOf('--seeds', '24'),
    await hashOf('--seeds', '7'),
    await hashOf('--from', '8', '--seeds', '17'),
  ];
  expect(first ^ second).toBe(whole);
}, 120_000);

test('every planted bug is caught', async () => {
  const output = await sim('--mutants');
  console.log(output);
  expect(output).toContain(`${PLANTED_BUGS.length} of ${PLANTED_BUGS.length} planted bugs caught`);
}, 900_000);
