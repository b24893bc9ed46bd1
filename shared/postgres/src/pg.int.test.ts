import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startPostgres, startTcpProxy, type TestServer } from '@millrace/testing';
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

test('a connection whose other side vanished is given up, and one that waits long for its answer is not', async () => {
  const proxy = await startTcpProxy(server.url);
  const [behind, direct] = await Promise.all([connectPostgres({ url: proxy.through(server.url) }), connectPostgres({ url: server.url })]);
  try {
    const patient = direct.query('select 1 as one from pg_sleep(20)');
    const inside = behind.transaction(async (tx) => {
      await tx.query('select 1');
      proxy.halfOpen();
      await tx.query('select 1');
    });
    await expect(inside).rejects.toMatchObject({ code: 'MR3001' });
    expect((await behind.query('select 2 as two')).rows).toEqual([{ two: 2 }]);
    expect((await patient).rows).toEqual([{ one: 1 }]);
  } finally {
    await Promise.all([behind.close(), direct.close()]);
    await proxy.close();
  }
}, 60_000);

test('a statement with bytes is planned without looking at them, and nothing of that stays with the connection', async () => {
  const db = await connectPostgres({ url: server.url, max: 1 });
  const mode = `select current_setting('plan_cache_mode') as mode, $1::text as value`;
  try {
    const answers = [];
    for (const value of [Buffer.from('ü'), 'ü']) answers.push((await db.query(mode, [value])).rows);
    expect(answers).toEqual([[{ mode: 'force_generic_plan', value: 'ü' }], [{ mode: 'auto', value: 'ü' }]]);
    await expect(db.query('select 1 / length($1::text)', [Buffer.from('')])).rejects.toMatchObject({ code: '22012' });
    expect((await db.query(mode, ['after'])).rows).toEqual([{ mode: 'auto', value: 'after' }]);
  } finally {
    await db.close();
  }
});

test('a session that its client left in a transaction does not keep its locks for ever', async () => {
  const db = await connectPostgres({ url: server.url });
  try {
    const { rows } = await db.query('show idle_in_transaction_session_timeout');
    expect(rows).toEqual([{ idle_in_transaction_session_timeout: '1min' }]);
  } finally {
    await db.close();
  }
});
