import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type Fixture, openFixture } from '../console-fixture.ts';
import { checkBooks as check, PostgresBooks } from './postgres-books.ts';

const RUN = 'refresh@manual:b';
const TABLES = ['audit.runs', 'audit.generations', 'audit.chunks', 'planner.runs', 'planner.chunks', 'millrace.inbox'];

async function checkBooks(db: Fixture['db'], runId: string, inboxRetention = 0) {
  const report = await check(db, runId, inboxRetention);
  if (!report) throw new Error(`no book knows ${runId}`);
  return report;
}

describe('checkBooks', () => {
  let f: Fixture;
  beforeAll(async () => {
    f = await openFixture();
  }, 60_000);
  afterAll(() => f.close());
  beforeEach(async () => {
    for (const table of TABLES) await f.db.query(`delete from ${table}`);
    await f.addRun({ runId: RUN, counts: { applied: 4, skipped: 1, failed: 0, duplicate: 2 } });
    await f.addChunk(RUN, 0, ['a', 'b', 'c'], '2a1x');
    await f.addChunk(RUN, 1, ['d', 'e'], '1a1s');
    await f.addChunk(RUN, 0, ['a', 'b', 'c'], '2-1a', 1);
  });

  it.each(TABLES)('fails when any single row of %s is deleted, and a scan of all runs still comes by', async (table) => {
    const { rows } = await f.db.query<{ at: string }>(`select ctid::text as at from ${table} where run_id = $1`, [RUN]);
    expect(rows.length).toBeGreaterThan(0);
    for (const { at } of rows) {
      await f.db.query('begin');
      await f.db.query(`delete from ${table} where ctid = $1::tid`, [at]);
      expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: false });
      expect(await new PostgresBooks(f.db, 0).runIds(10)).toEqual([RUN]);
      await f.db.query('rollback');
    }
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: true });
  });

  it.each(TABLES)('fails when all rows of %s are deleted', async (table) => {
    await f.db.query(`delete from ${table}`);
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: false });
    expect(await new PostgresBooks(f.db, 0).runIds(10)).toEqual([RUN]);
  });

  it('names a key that stands in two chunks, and one that stands twice in a chunk', async () => {
    await f.db.query(`update planner.chunks set payload = '[["d",{"nul":"\\u0000"}],["a",1]]' where seq = 1 and generation = 0`);
    expect((await checkBooks(f.db, RUN)).problems).toEqual([
      { what: 'key planned twice', chunk: '0/0', detail: 'in chunks 0, 1', keys: ['a'] },
    ]);
    await f.db.query(`update planner.chunks set payload = '[["d",{}],["d",{}]]' where seq = 1 and generation = 0`);
    expect((await checkBooks(f.db, RUN)).problems).toEqual([
      { what: 'key planned twice', chunk: '0/1', detail: 'in chunk 1', keys: ['d'] },
    ]);
  });

  it('names an item that a redrive took although it was done', async () => {
    for (const table of ['audit.chunks', 'planner.chunks', 'millrace.inbox'])
      await f.db.query(`update ${table} set outcomes = '1-2a' where generation = 1`);
    expect((await checkBooks(f.db, RUN)).problems).toContainEqual(
      expect.objectContaining({ what: 'done twice', chunk: '1/0', keys: ['b'] }),
    );
  });

  it('knows nothing of a run that no book knows, or that is being deleted for its age', async () => {
    expect(await check(f.db, 'refresh@manual:nobody')).toBeUndefined();
    await f.db.query('delete from planner.chunks');
    await f.db.query('update planner.runs set purged_at = now()');
    expect(await check(f.db, RUN)).toBeUndefined();
    expect(await new PostgresBooks(f.db, 0).runIds(10)).toEqual([]);
  });

  it('lists all runs page by page', async () => {
    for (let i = 0; i < 7; i++) await f.addRun({ runId: `refresh@manual:c${i}` });
    const books = new PostgresBooks(f.db, 0);
    const seen: string[] = [];
    for (let after: string | undefined; ; after = seen.at(-1)) {
      const page = await books.runIds(3, after);
      if (page.length === 0) break;
      seen.push(...page);
    }
    expect(seen).toEqual([RUN, ...Array.from({ length: 7 }, (_, i) => `refresh@manual:c${i}`)]);
  });

  it('finds books of a redriven run in balance: the latest generation counts for each item', async () => {
    expect(await checkBooks(f.db, RUN)).toEqual({
      runId: RUN,
      ok: true,
      closed: true,
      settling: false,
      inbox: 'checked',
      problems: [],
      balance: {
        planned: 7,
        applied: 4,
        skipped: 1,
        duplicate: 2,
        failed: 0,
        rejected: 0,
        cancelled: 0,
        expired: 0,
        indeterminate: 0,
        open: 0,
      },
    });
  });

  it('names the keys of a chunk that the ledger lost', async () => {
    await f.db.query('delete from audit.chunks where seq = 1');
    const { ok, problems, balance } = await checkBooks(f.db, RUN);
    expect(ok).toBe(false);
    expect(problems).toContainEqual(expect.objectContaining({ what: 'chunk missing in ledger', chunk: '0/1', keys: ['d', 'e'] }));
    expect(problems.map(({ what }) => what)).toContain('open items in a closed run');
    expect(balance.open).toBe(2);
  });

  it('names the keys whose commit has no record in the inbox', async () => {
    await f.db.query('delete from millrace.inbox where generation = 1');
    expect((await checkBooks(f.db, RUN)).problems).toEqual([
      expect.objectContaining({ what: 'chunk missing in inbox', chunk: '1/0', keys: ['c'] }),
    ]);
  });

  it('names the first 200 problems, and says how many more there are', async () => {
    for (let seq = 2; seq < 210; seq++) await f.addChunk(RUN, seq, [`k${seq}`], '1a');
    await f.db.query(`update planner.runs set items = items + 208, next_seq = 210`);
    await f.db.query(`update audit.runs set planned = planned + 208, applied = applied + 208`);
    await f.db.query('delete from millrace.inbox where seq >= 2');
    const { problems } = await checkBooks(f.db, RUN);
    expect(problems).toHaveLength(201);
    expect(problems.slice(0, 200).map(({ what, keys }) => [what, keys])).toEqual(
      Array.from({ length: 200 }, (_, i) => ['chunk missing in inbox', [`k${i + 2}`]]),
    );
    expect(problems.at(-1)).toEqual({ what: 'more problems', chunk: null, detail: '8 beyond the first 200' });
  });

  it('names the item whose fate differs between inbox and ledger', async () => {
    await f.db.query(`update millrace.inbox set outcomes = '2a' where seq = 1`);
    expect((await checkBooks(f.db, RUN)).problems).toEqual([
      expect.objectContaining({ what: 'outcomes differ', chunk: '0/1', keys: ['e'] }),
    ]);
  });

  it('notices counts that were moved', async () => {
    await f.db.query('update audit.runs set applied = 5, skipped = 0');
    expect((await checkBooks(f.db, RUN)).problems).toEqual([
      expect.objectContaining({ what: 'ledger counts differ', detail: 'applied 5, rebuilt 4; skipped 0, rebuilt 1' }),
    ]);
  });

  it('notices a chunk that is nowhere any more', async () => {
    for (const table of ['audit.chunks', 'planner.chunks', 'millrace.inbox']) await f.db.query(`delete from ${table} where seq = 1`);
    const { problems } = await checkBooks(f.db, RUN);
    expect(problems.map(({ what }) => what)).toEqual(
      expect.arrayContaining(['chunk missing in plan', 'items missing in plan', 'ledger counts differ', 'the equation does not hold']),
    );
  });

  it('asks nothing of an open run but counts what it owes', async () => {
    await f.db.query(`update audit.runs set state = 'running'`);
    await f.db.query(`update planner.runs set state = 'running'`);
    await f.db.query('delete from audit.chunks where seq = 1');
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: true, closed: false, balance: { planned: 7, applied: 3, open: 2 } });
  });

  it('leaves the inbox out when the job writes to another database', async () => {
    await f.db.query('delete from millrace.inbox');
    await f.db.query(`update planner.runs set manifest = '{"inbox":"elsewhere"}'`);
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: true, inbox: 'elsewhere' });
  });

  it('expects no inbox of a run that is older than inboxes are kept', async () => {
    await f.db.query(`delete from millrace.inbox where seq = 1`);
    await f.db.query(`update planner.runs set opened_at = now() - interval '2 days'`);
    expect(await checkBooks(f.db, RUN, 3 * 86_400_000)).toMatchObject({ ok: false, inbox: 'checked' });
    expect(await checkBooks(f.db, RUN, 86_400_000)).toMatchObject({ ok: true, inbox: 'expired' });
  });

  it('gives plan and ledger a minute to hear of the end of a run, and no more', async () => {
    await f.db.query(`update planner.runs set state = 'running'`);
    await f.db.query(`update audit.runs set closed_at = now() - interval '10 seconds'`);
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: true, closed: false, settling: true });
    await f.db.query(`update audit.runs set closed_at = now() - interval '2 minutes'`);
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: false, problems: [{ what: 'state differs' }] });
  });

  it('takes a redrive that has just begun for what it is', async () => {
    await f.db.query(`update planner.runs set state = 'running', generation = 2`);
    await f.db.query(`update audit.runs set closed_at = now() - interval '2 days'`);
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: true, closed: false, settling: false });
  });

  it('does not take a redrive that begins while it reads for a leak', async () => {
    let began = false;
    const db: Fixture['db'] = {
      query: async <Row>(sql: string, params?: readonly unknown[]) => {
        // Between the look at the plan and the look at the ledger.
        if (!began && sql.includes('from audit.runs')) {
          began = true;
          await f.db.query(`update planner.runs set state = 'running', generation = 2`);
          await f.db.query(`update audit.runs set state = 'running', generation = 2`);
        }
        return f.db.query<Row>(sql, params);
      },
    };
    expect(await checkBooks(db, RUN)).toMatchObject({ ok: true, closed: false });
    expect(began).toBe(true);
  });
});
