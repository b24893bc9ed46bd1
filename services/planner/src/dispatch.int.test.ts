import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { ChunkSettled } from '@millrace/core';
import { connectPostgres, type Database, migrate } from '@millrace/postgres';
import { startPostgres, type TestServer } from '@millrace/testing';
import { PostgresPlanStore } from './adapters/postgres-plan-store.ts';
import type { ChunkClaim, DueChunk } from './plan-store.ts';
import { jobOf } from './planner-fixture.ts';

const FIRST: ChunkClaim = { jobs: ['j', 'k'], window: 100, limit: 10, kind: 'first', throttled: [] };
const RETRY: ChunkClaim = { ...FIRST, kind: 'retry' };

describe('dispatch from the table of chunks', () => {
  let server: TestServer;
  let db: Database;
  let store: PostgresPlanStore;

  beforeAll(async () => {
    server = await startPostgres();
    db = await connectPostgres({ url: server.url });
    await migrate(db, [{ schema: 'planner', source: new URL('../migrations', import.meta.url) }]);
    store = new PostgresPlanStore(db);
  }, 60_000);
  afterAll(async () => {
    await db?.close();
    await server?.stop();
  });
  beforeEach(async () => {
    await db.query('delete from planner.runs');
    await db.query('delete from planner.chunks');
  });

  async function addRun(runId: string, chunks: number, { job = 'j', state = 'running', openedAgo = 0, attempt = 1, spool = false } = {}) {
    await db.query(
      `insert into planner.runs (run_id, job, tick, cause, params, manifest, state, opened_at, next_seq)
       values ($1, $2, $1, 'trigger', '{}', $3, $4, now() - $5 * interval '1 second', $6)`,
      [runId, job, JSON.stringify({ ...jobOf(job, () => [], { spool }).manifest }), state, openedAgo, chunks],
    );
    await db.query(
      `insert into planner.chunks (run_id, generation, seq, job, size, payload, attempt, due_at, outcomes)
       select $1, 0, g, $2, 2, '[["a",1],["b",2]]', $4, now() - interval '1 second', case when $4 > 1 then '2f' end from generate_series(0, $3 - 1) g`,
      [runId, job, chunks, attempt],
    );
  }
  const settled = (chunk: DueChunk, over: Partial<ChunkSettled> = {}) => ({
    runId: chunk.runId,
    job: chunk.job,
    generation: chunk.generation,
    seq: chunk.seq,
    attempt: chunk.attempt,
    size: chunk.size,
    outcomes: '2a',
    failures: [],
    skips: {},
    settledAt: 1,
    timing: { queued: 0, process: 0, commit: 0 },
    next: undefined,
    ...over,
  });
  const names = (chunks: readonly DueChunk[]) => chunks.map(({ runId, seq }) => `${runId}/${seq}`);

  test.each([
    ['older', 100],
    ['younger', 0],
  ])('a long run that always has room in its window does not starve others (the long one is the %s)', async (_, openedAgo) => {
    await addRun('long', 500, { openedAgo });
    await addRun('short-1', 5, { openedAgo: 50 });
    await addRun('short-2', 5, { job: 'k', openedAgo: 50 });
    const sent: string[] = [];
    for (let round = 0; round < 4; round++) {
      const chunks = await store.claimChunks(FIRST);
      expect(chunks.length).toBeGreaterThan(0);
      sent.push(...names(chunks));
      // Processors are quick with the long run: it could take every claim for itself.
      await store.settleChunks(chunks.filter(({ runId }) => runId === 'long').map((chunk) => settled(chunk)));
    }
    expect(sent.filter((name) => name.startsWith('short'))).toHaveLength(10);
  });

  test('of a run at most its window is in the broker, in the order of the plan', async () => {
    await addRun('a', 30);
    expect(names(await store.claimChunks({ ...FIRST, window: 3 })).sort()).toEqual(['a/0', 'a/1', 'a/2']);
    expect(await store.claimChunks({ ...FIRST, window: 3 })).toEqual([]);
    expect([await store.waiting(['j']), await store.waiting(['k'])]).toEqual([
      { due: undefined, held: true },
      { due: undefined, held: false },
    ]);
    await store.settleChunks([settled({ runId: 'a', generation: 0, seq: 1, attempt: 1, size: 2, job: 'j' } as DueChunk)]);
    expect(names(await store.claimChunks({ ...FIRST, window: 3 }))).toEqual(['a/3']);
  });

  test('two planners never claim the same chunk', async () => {
    await addRun('a', 60);
    const claims = await Promise.all(Array.from({ length: 6 }, () => new PostgresPlanStore(db).claimChunks(FIRST)));
    const all = claims.flatMap(names);
    expect(new Set(all).size).toBe(all.length);
  });

  test('nothing of a spooled run goes out while it is planned', async () => {
    await addRun('spooled', 3, { state: 'planning', spool: true });
    await addRun('streamed', 3, { state: 'planning' });
    expect(names(await store.claimChunks(FIRST)).sort()).toEqual(['streamed/0', 'streamed/1', 'streamed/2']);
  });

  test('retries of a throttled job wait while its run has first attempts that are due, and no longer', async () => {
    await addRun('a', 3);
    await addRun('b', 2, { job: 'k' });
    await db.query(`update planner.chunks set attempt = 2, outcomes = '1a1f' where seq = 0`);
    expect(names(await store.claimChunks({ ...RETRY, throttled: ['j'] }))).toEqual(['b/0']);
    expect(names(await store.claimChunks({ ...FIRST })).sort()).toEqual(['a/1', 'a/2', 'b/1']);
    expect(names(await store.claimChunks({ ...RETRY, throttled: ['j'] }))).toEqual(['a/0']);
  });

  test('a retry goes out when it is due, and the wait for the next one is known', async () => {
    await addRun('a', 1);
    const [chunk] = await store.claimChunks(FIRST);
    await store.settleChunks([{ ...settled(chunk as DueChunk, { outcomes: '1a1f' }), next: { in: 60_000, attempt: 2 } }]);
    expect(await store.claimChunks(RETRY)).toEqual([]);
    const { due: wait, held } = await store.waiting(['j']);
    expect(held).toBe(false);
    expect(wait).toBeGreaterThan(50_000);
    expect(wait).toBeLessThanOrEqual(60_000);
    await db.query(`update planner.chunks set due_at = now() - interval '1 ms'`);
    expect(await store.waiting(['j'])).toEqual({ due: undefined, held: true });
    expect(await store.claimChunks(RETRY)).toEqual([expect.objectContaining({ attempt: 2, outcomes: '1a1f' })]);
  });

  test('chunks of a run without progress are sent again within the budget, oldest first; after the limit they count as stalled', async () => {
    await addRun('a', 8);
    await store.confirmChunks(await store.claimChunks(FIRST));
    const idle = 30_000;
    expect(await store.resetStalled('j', idle, 5, 100)).toEqual({ reset: 0, stalled: 0 });
    await db.query(`update planner.chunks set emitted_at = now() - interval '1 minute' - seq * interval '1 second'`);
    // The run moves on: its chunks are late, not lost.
    expect(await store.resetStalled('j', idle, 5, 100)).toEqual({ reset: 0, stalled: 0 });
    await db.query(`update planner.runs set progress_at = now() - interval '1 minute'`);
    expect(await store.resetStalled('j', idle, 5, 3)).toEqual({ reset: 3, stalled: 0 });
    const { rows } = await db.query<{ seq: number }>(`select seq from planner.chunks where state = 'ready' order by seq`);
    expect(rows.map(({ seq }) => seq)).toEqual([5, 6, 7]);
    await db.query(`update planner.chunks set emits = 6 where seq < 2`);
    expect(await store.resetStalled('j', idle, 5, 100)).toEqual({ reset: 3, stalled: 2 });
    expect(await store.resetStalled('j', idle, 5, 100)).toEqual({ reset: 0, stalled: 2 });
  });

  test('a chunk that was claimed and never confirmed is published again after its time, a confirmed one is not', async () => {
    await addRun('a', 3);
    const [, ...others] = await store.claimChunks(FIRST);
    await store.confirmChunks(others);
    expect(await store.releaseUnconfirmed(['j'])).toBe(0);
    await db.query(`update planner.chunks set due_at = now() - interval '1 minute'`);
    expect(await store.releaseUnconfirmed(['j'])).toBe(1);
    const [again] = await store.claimChunks(FIRST);
    // A confirmation of an older attempt says nothing of this one.
    await store.settleChunks([{ ...settled(again as DueChunk, { outcomes: '2f' }), next: { in: 0, attempt: 2 } }]);
    const [retried] = await store.claimChunks(RETRY);
    await store.confirmChunks([again as DueChunk]);
    // Nor does that of an earlier sending: the queue that took it may be gone.
    await store.confirmChunks([{ ...(retried as DueChunk), emits: 0 }]);
    await db.query(`update planner.chunks set due_at = now() - interval '1 minute'`);
    expect(await store.releaseUnconfirmed(['j'])).toBe(1);
  });

  test('plans of old closed runs are deleted step by step, and nothing of any other run; what is being deleted is not redriven', async () => {
    const day = 86_400_000;
    for (const runId of ['old', 'young', 'open']) await addRun(runId, 3);
    await db.query(
      `update planner.runs set state = 'closed', opened_at = now() - interval '91 days', closed_at = now() - interval '91 days' where run_id = 'old'`,
    );
    await db.query(
      `update planner.runs set state = 'closed', opened_at = now() - interval '89 days', closed_at = now() - interval '89 days' where run_id = 'young'`,
    );
    await db.query(`update planner.runs set opened_at = now() - interval '1 year' where run_id = 'open'`);
    await db.query(`update planner.chunks set state = 'settled', outcomes = '2x'`);
    await db.query(
      `insert into planner.ticks (job, nominal, through, result) select 'j', t, t, 'ran' from unnest(array[now() - interval '91 days', now()]) t`,
    );
    const redrive = (runId: string, maxAge: number) =>
      store.redrive({ runId, generation: 1, group: undefined, keys: undefined, maxAge, trace: {} });
    const left = async () => {
      const { rows } = await db.query<{ run_id: string; chunks: number; purged: boolean }>(
        `select run_id, (select count(*)::integer from planner.chunks c where c.run_id = r.run_id) as chunks, purged_at is not null as purged
         from planner.runs r order by run_id`,
      );
      return rows.map((row) => Object.values(row).join(' '));
    };
    const whole = ['open 3 false', 'young 3 false'];
    await store.purge(90 * day, 2);
    expect(await left()).toEqual(['old 1 true', ...whole]);
    while ((await store.purge(90 * day, 2)) === 'more');
    expect(await left()).toEqual(['old 0 true', ...whole]);
    expect((await db.query('select 1 from planner.ticks')).rows).toHaveLength(1);
    expect(await redrive('old', Number.POSITIVE_INFINITY)).toBe('old');
    await db.query(`update planner.runs set purged_at = now() - interval '25 hours' where run_id = 'old'`);
    while ((await store.purge(90 * day, 2)) === 'more');
    expect(await left()).toEqual(whole);
    // Its inbox may be gone: effects could be applied twice.
    expect(await redrive('young', 29 * day)).toBe('old');
    expect(await redrive('young', 100 * day)).toBe('opened');
    await db.query('delete from planner.ticks');
  });

  test('a settled run that nobody closes is told again, ever more rarely', async () => {
    await addRun('a', 1);
    await store.settleChunks((await store.claimChunks(FIRST)).map((chunk) => settled(chunk)));
    const told = async (secondsAgo: number) => {
      await db.query(`update planner.runs set progress_at = now() - $1 * interval '1 second'`, [secondsAgo]);
      return (await store.tellAgain(['j'], 30_000)).length;
    };
    const answer = async () => store.settleChunks((await store.claimChunks(FIRST)).map((chunk) => settled(chunk)));
    expect(await told(29)).toBe(0);
    expect(await told(31)).toBe(1);
    await answer();
    expect(await told(31)).toBe(0);
    expect(await told(61)).toBe(1);
    await answer();
    expect(await told(61)).toBe(0);
    for (let i = 2; i < 12; i++) {
      expect(await told(2 ** 7 * 30 + 1)).toBe(1);
      await answer();
    }
  });
});
