import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startPostgres, type TestServer } from '@millrace/testing';
import { databaseContract } from './contract.ts';
import { connectPostgres } from './pg.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startPostgres();
}, 60_000);
afterAll(() => server?.stop());

databaseContract('PostgreSQL', () => connectPostgres({ url: server.url }));

test('an unreachable server and wrong credentials have codes, and the message names the place, never the password', async () => {
  await expect(connectPostgres({ url: 'postgres://me:s3cret@127.0.0.1:1/db' })).rejects.toMatchObject({
    code: 'MR3001',
    message: expect.stringContaining('127.0.0.1:1'),
  });
  const missing = new URL(server.url);
  missing.pathname = '/no_such_database';
  await expect(connectPostgres({ url: missing.href })).rejects.toMatchObject({
    code: 'MR3002',
    message: expect.not.stringContaining('s3cret'),
  });
});

test('a server that goes away fails the transaction with MR3001, and the pool works again once it is back', async () => {
  const db = await connectPostgres({ url: server.url });
  try {
    const failed = db.transaction(async (tx) => {
      await tx.query('select 1');
      await server.kill();
      await tx.query('select 1');
    });
    await expect(failed).rejects.toMatchObject({ code: 'MR3001' });
    await server.restart();
    expect((await db.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  } finally {
    await db.close();
  }
}, 60_000);
