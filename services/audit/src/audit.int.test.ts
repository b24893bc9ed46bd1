import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ChunkSettled, type Envelope, noCounts, RunOpened, RunPlanned } from '@millrace/core';
import { openMemoryBrokers } from '@millrace/messaging';
import { connectPostgres, type Database, migrate } from '@millrace/postgres';
import type { Platform } from '@millrace/runtime';
import { startPostgres, type TestServer } from '@millrace/testing';
import { PostgresLedgerStore } from './adapters/postgres-ledger-store.ts';
import { Audit } from './audit.ts';
import { auditDefaults } from './config.ts';

const manifest = { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' as const };
const opened = (runId: string): RunOpened => ({
  runId,
  job: 'j',
  generation: 0,
  tick: runId.slice(2),
  nominal: null,
  cause: 'trigger',
  openedAt: 1,
  manifest,
  params: {},
});
const planned = (runId: string, chunks: number, items: number): RunPlanned => ({
  runId,
  job: 'j',
  generation: 0,
  chunks,
  items,
  duplicates: 0,
  plannedAt: 2,
  replaced: noCounts(),
});
const settled = (runId: string, seq: number, over: Partial<ChunkSettled> = {}): ChunkSettled => ({
  runId,
  job: 'j',
  generation: 0,
  seq,
  attempt: 1,
  size: 2,
  outcomes: '2a',
  failures: [],
  skips: {},
  settledAt: 3,
  timing: { queued: 0, process: 0, commit: 0 },
  ...over,
});
const none = { opened: [], planned: [], planFailed: [], settled: [] };

describe('the audit on PostgreSQL', () => {
  let server: TestServer;
  let db: Database;
  let other: Database;
  let audit: Audit;

  beforeAll(async () => {
    server = await startPostgres();
    db = await connectPostgres({ url: server.url });
    other = await connectPostgres({ url: server.url });
    await migrate(db, [{ schema: 'audit', source: new URL('../migrations', import.meta.url) }]);
    const silent = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
    const platform = { ...openMemoryBrokers(), database: db, log: silent, time: { now: () => 1, sleep: async () => {} } };
    audit = new Audit(platform as unknown as Platform, auditDefaults, new PostgresLedgerStore(db));
  }, 60_000);
  afterAll(async () => {
    await db?.close();
    await other?.close();
    await server?.stop();
  });

  const run = async (runId: string) =>
    (await db.query<Record<string, string>>('select * from audit.runs where run_id = $1', [runId])).rows[0];
  const fold = (envelopes: readonly Envelope[]) => audit.fold(envelopes.map((envelope) => ({ ...envelope, deliveries: 1 })));

  test('a fact that can never fold is parked alone; its neighbours in the batch are folded', async () => {
    await fold([RunOpened.envelope(opened('j@a'), 1), ChunkSettled.envelope(settled('j@a', 0), 1)]);
    const verdicts = await fold([
      ChunkSettled.envelope(settled('j@a', 1), 1),
      // The ledger has this chunk with two items.
      ChunkSettled.envelope(settled('j@a', 0, { size: 3, outcomes: '3x', attempt: 2 }), 1),
      ChunkSettled.envelope(settled('j@a', 2), 1),
      RunPlanned.envelope(planned('j@a', 3, 6), 1),
    ]);
    expect(verdicts.map((verdict) => verdict.kind)).toEqual(['done', 'park', 'done', 'done']);
    expect(await run('j@a')).toMatchObject({ state: 'closed', verdict: 'succeeded', applied: '6' });
  });

  test('what an error message quotes, NUL included, does not stop the books', async () => {
    const failure = {
      position: 0,
      key: 'k\0',
      fingerprint: 'f',
      title: 'a\0b',
      message: 'bad \0 byte \ud800',
      class: 'permanent' as const,
    };
    await fold([
      ChunkSettled.envelope(settled('j@nul', 0, { outcomes: '1x1s', failures: [failure], skips: { 'why\0': 1 } }), 1),
      RunPlanned.envelope(planned('j@nul', 1, 2), 1),
    ]);
    expect(await run('j@nul')).toMatchObject({ state: 'closed', failed: '1', skipped: '1' });
  });

  test('a run without items closes with its plan, once', async () => {
    for (let i = 0; i < 2; i++) await fold([RunOpened.envelope(opened('j@zero'), 1), RunPlanned.envelope(planned('j@zero', 0, 0), 1)]);
    expect(await run('j@zero')).toMatchObject({ state: 'closed', verdict: 'succeeded', planned: '0' });
  });

  test('the last outcome racing the seal closes the run once, whoever comes last', async () => {
    const stores = [new PostgresLedgerStore(db), new PostgresLedgerStore(other)] as const;
    const closed: string[] = [];
    for (let i = 0; i < 40; i++) {
      const runId = `j@race-${i}`;
      await stores[0].fold({ ...none, opened: [{ ...opened(runId), trace: {} }] });
      await Promise.all([
        stores[0].fold({ ...none, planned: [planned(runId, 1, 2)] }),
        stores[1].fold({ ...none, settled: [settled(runId, 0)] }),
      ]);
      const owed = (await stores[0].outbox(100)).filter(({ data }) => data.runId === runId);
      closed.push(...owed.map(({ data }) => `${data.runId} ${data.verdict} ${data.counts.applied}`));
      await stores[0].clearOutbox(owed.map(({ id }) => id));
    }
    expect(closed).toEqual(Array.from({ length: 40 }, (_, i) => `j@race-${i} succeeded 2`));
  });

  test('facts doubled and in any order give the same books', async () => {
    const facts = (runId: string) => [
      RunOpened.envelope(opened(runId), 1),
      RunPlanned.envelope(planned(runId, 3, 6), 1),
      ...[0, 1, 2].map((seq) => ChunkSettled.envelope(settled(runId, seq, seq === 1 ? { outcomes: '1a1f' } : {}), 1)),
      ChunkSettled.envelope(settled(runId, 1, { outcomes: '1a1x', attempt: 2 }), 1),
    ];
    for (let rotation = 0; rotation < 6; rotation++) {
      const runId = `j@order-${rotation}`;
      const list = facts(runId);
      const shuffled = [...list.slice(rotation), ...list.slice(0, rotation)].reverse();
      for (const envelope of [...shuffled, ...list]) await fold([envelope]);
      expect(await run(runId)).toMatchObject({ state: 'closed', verdict: 'failed', planned: '6', applied: '5', failed: '1' });
    }
  });

  test('old closed runs are deleted step by step, and nothing of any other run', async () => {
    const day = 86_400_000;
    const store = new PostgresLedgerStore(db);
    const ids = ['j@old', 'j@young', 'j@open'];
    for (const runId of ids)
      await store.fold({
        ...none,
        opened: [{ ...opened(runId), trace: {} }],
        settled: [0, 1, 2].map((seq) => settled(runId, seq)),
        planned: [planned(runId, 3, 6)],
      });
    await db.query(`update audit.runs set closed_at = now() - interval '91 days' where run_id = 'j@old'`);
    await db.query(`update audit.runs set closed_at = now() - interval '89 days' where run_id = 'j@young'`);
    await db.query(
      `update audit.runs set state = 'running', opened_at = now() - interval '1 year', closed_at = null where run_id = 'j@open'`,
    );
    const left = async () => {
      const { rows } = await db.query<{ run_id: string; chunks: number; passes: number; purged: boolean }>(
        `select run_id, (select count(*)::integer from audit.chunks c where c.run_id = r.run_id) as chunks,
           (select count(*)::integer from audit.generations g where g.run_id = r.run_id) as passes, purged_at is not null as purged
         from audit.runs r where run_id = any($1::text[]) order by run_id`,
        [ids],
      );
      return rows.map((row) => Object.values(row).join(' '));
    };
    const whole = ['j@open 3 1 false', 'j@young 3 1 false'];
    await store.purge(90 * day, 2);
    expect(await left()).toEqual(['j@old 1 0 true', ...whole]);
    while ((await store.purge(90 * day, 2)) === 'more');
    expect(await left()).toEqual(['j@old 0 0 true', ...whole]);
    await db.query(`update audit.runs set purged_at = now() - interval '25 hours' where run_id = 'j@old'`);
    while ((await store.purge(90 * day, 2)) === 'more');
    expect(await left()).toEqual(whole);
  });
});
