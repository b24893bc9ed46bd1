import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { databaseContract } from './contract.ts';
import { lockDirectory, readLock } from './directory-lock.ts';
import { openPglite } from './pglite.ts';

databaseContract('PGlite', () => openPglite());

test('a directory is held by one database at a time, keeps its data, and says who holds it', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-pglite-'));
  try {
    const first = await openPglite({ directory });
    await first.query('create table kept as select 42 as answer');
    expect(readLock(directory)).toMatchObject({ pid: process.pid });
    await expect(openPglite({ directory })).rejects.toMatchObject({
      code: 'MR3008',
      message: expect.stringContaining(String(process.pid)),
    });
    await first.close();
    expect(readLock(directory)).toBeUndefined();
    const second = await openPglite({ directory });
    expect((await second.query('select answer from kept')).rows).toEqual([{ answer: 42 }]);
    await second.close();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);

test('the lock carries the address of the process that holds it', () => {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-lock-'));
  const lock = lockDirectory(directory);
  lock.publish('http://localhost:4400');
  expect(readLock(directory)).toMatchObject({ url: 'http://localhost:4400' });
  lock.release();
  lock.release();
  expect(readLock(directory)).toBeUndefined();
  rmSync(directory, { recursive: true, force: true });
});
