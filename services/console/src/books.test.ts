import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { checkBooks } from './books.ts';
import { type Fixture, openFixture } from './console-fixture.ts';

const RUN = 'refresh@manual:b';

describe('checkBooks', () => {
  let f: Fixture;
  beforeAll(async () => {
    f = await openFixture();
  }, 60_000);
  afterAll(() => f.close());
  beforeEach(async () => {
    for (const table of ['audit.runs', 'audit.chunks', 'planner.runs', 'planner.chunks', 'millrace.inbox'])
      await f.db.query(`delete from ${table}`);
    await f.addRun({ runId: RUN, counts: { applied: 4, skipped: 1, failed: 0, duplicate: 2 } });
    await f.addChunk(RUN, 0, ['a', 'b', 'c'], '2a1x');
    await f.addChunk(RUN, 1, ['d', 'e'], '1a1s');
    await f.addChunk(RUN, 0, ['a', 'b', 'c'], '2-1a', 1);
  });

  it('finds books of a redriven run in balance: the latest generation counts for each item', async () => {
    expect(await checkBooks(f.db, RUN)).toEqual({
      runId: RUN,
      ok: true,
      closed: true,
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
      expect.arrayContaining(['chunks missing in plan', 'ledger counts differ', 'the equation does not hold']),
    );
  });

  it('asks nothing of an open run but counts what it owes', async () => {
    await f.db.query(`update audit.runs set state = 'running'`);
    await f.db.query('delete from audit.chunks where seq = 1');
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: true, closed: false, balance: { planned: 7, applied: 3, open: 2 } });
  });

  it('leaves the inbox out when the job writes to another database', async () => {
    await f.db.query('delete from millrace.inbox');
    expect(await checkBooks(f.db, RUN)).toMatchObject({ ok: true, inbox: 'elsewhere' });
  });
});
