import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { manualTick, runIdOf, Tick } from '@millrace/core';
import { connectPostgres, type Database, migrate } from '@millrace/postgres';
import { startPostgres, type TestServer, waitFor } from '@millrace/testing';
import { gate, jobOf, numbers, type PlannerFixture, startPlanner } from './planner-fixture.ts';

interface RunRow {
  state: string;
  plan_epoch: number;
  plan_failures: number;
  items: string;
  duplicates: string;
  next_seq: number;
  sealed: boolean;
  plan_error: { code: string } | null;
  lease_until: Date | null;
}

describe('planning on PostgreSQL', () => {
  let server: TestServer;
  let db: Database;
  const started: PlannerFixture[] = [];

  beforeAll(async () => {
    server = await startPostgres();
    db = await connectPostgres({ url: server.url, max: 12 });
    await migrate(db, [{ schema: 'planner', source: new URL('../migrations', import.meta.url) }]);
  }, 60_000);
  afterEach(async () => {
    for (const one of started) one.time.thaw();
    await Promise.all(started.splice(0).map(({ planner }) => planner.stop()));
  });
  afterAll(async () => {
    await db?.close();
    await server?.stop();
  });

  const start: typeof startPlanner = async (...args) => {
    const one = await startPlanner(...args);
    started.push(one);
    return one;
  };
  const runOf = async (job: string): Promise<RunRow> => {
    const { rows } = await db.query<RunRow>('select * from planner.runs where run_id = $1', [runIdOf(job, manualTick('k'))]);
    return rows[0] as RunRow;
  };
  const running = async (job: string) => {
    await waitFor(async () => (await runOf(job))?.state === 'running', { timeout: 30_000 });
    return runOf(job);
  };
  const storedIds = async (job: string) => {
    const { rows } = await db.query<{ payload: string }>('select payload from planner.chunks where job = $1 order by seq', [job]);
    return rows.flatMap(({ payload }) => (JSON.parse(payload) as [string, unknown][]).map(([key]) => Number(key)));
  };

  test('a planner that was frozen beyond its lease writes nothing any more, and no key is planned twice', async () => {
    const [asleep, half] = [gate(), gate()];
    let zombieAsked = 0;
    // No lease runs out by itself, however slow the machine is; and the frozen planner has no other loop that could take the run.
    const config = { lease: 600_000, planning: 1 };
    const zombie = await start(
      db,
      [
        jobOf('zombie', async function* () {
          yield* numbers(0, 1_600);
          await asleep.opened;
          for (const item of numbers(1_600, 9_000)) {
            zombieAsked++;
            yield item;
          }
        }),
      ],
      { config },
    );
    await zombie.trigger('zombie', 'k');
    await waitFor(async () => (await runOf('zombie'))?.next_seq >= 3, { timeout: 30_000 });
    zombie.time.freeze();
    const before = await runOf('zombie');
    await db.query(`update planner.runs set lease_until = now() where job = 'zombie'`);
    await start(
      db,
      [
        jobOf('zombie', async function* () {
          yield* numbers(0, 4_000);
          await half.opened;
          yield* numbers(4_000, 5_000);
        }),
      ],
      { config },
    );
    // The other has taken over and is half-way when the frozen one goes on where it was.
    await waitFor(async () => (await runOf('zombie')).next_seq > before.next_seq, { timeout: 30_000 });
    expect((await runOf('zombie')).plan_epoch).toBe(before.plan_epoch + 1);
    zombie.time.thaw();
    asleep.open();
    await waitFor(() => zombieAsked > 0, { timeout: 30_000 });
    half.open();
    expect(await running('zombie')).toMatchObject({ items: '5000', duplicates: '0', sealed: true, plan_epoch: before.plan_epoch + 1 });
    await zombie.planner.stop();
    expect(await storedIds('zombie')).toEqual([...numbers(0, 5_000)].map(({ id }) => id));
    // It stopped asking its source at the first thing it was not allowed to write.
    expect(zombieAsked).toBeLessThan(7_400);
  }, 90_000);

  test('a source that yields nothing for many leases keeps its run', async () => {
    const slow = gate();
    const jobs = [
      jobOf('slow', async function* () {
        yield { id: 1 };
        await slow.opened;
        yield { id: 2 };
      }),
    ];
    const [one] = [await start(db, jobs), await start(db, jobs)];
    await one.trigger('slow', 'k');
    const leases = new Set<number>();
    await waitFor(
      async () => {
        const run = await runOf('slow');
        if (run?.lease_until) leases.add(run.lease_until.getTime());
        return leases.size >= 6;
      },
      { timeout: 30_000 },
    );
    slow.open();
    expect(await running('slow')).toMatchObject({ items: '2', plan_epoch: 1 });
  }, 60_000);

  test('a planner that has lost its run stops its source at once, even one that never answers', async () => {
    let signal: AbortSignal | undefined;
    const one = await start(db, [
      jobOf('hung', async function* (ctx) {
        signal ??= ctx.signal;
        yield { id: 1 };
        if (signal === ctx.signal) await new Promise(() => undefined);
      }),
    ]);
    await one.trigger('hung', 'k');
    await waitFor(() => signal !== undefined, { timeout: 30_000 });
    await db.query(`update planner.runs set plan_epoch = plan_epoch + 1, lease_until = now() where job = 'hung'`);
    await waitFor(() => signal?.aborted === true, { timeout: 30_000 });
    // The planner is free again, and plans the run anew.
    expect(await running('hung')).toMatchObject({ items: '1', sealed: true });
  }, 60_000);

  test('a spooled source that yields something else in its second pass gives one consistent plan', async () => {
    let pass = 0;
    const one = await start(db, [
      jobOf(
        'spooled',
        function* () {
          pass++;
          if (pass === 1) {
            yield* numbers(0, 1_500);
            throw new Error('the source hung up');
          }
          yield* numbers(10_000, 11_200);
        },
        { spool: true },
      ),
    ]);
    await one.trigger('spooled', 'k');
    expect(await running('spooled')).toMatchObject({ items: '1200', duplicates: '0', sealed: true });
    expect(await storedIds('spooled')).toEqual([...numbers(10_000, 11_200)].map(({ id }) => id));
    await waitFor(() => one.chunks.length === 3, { timeout: 30_000 });
    expect(one.chunks.flatMap((chunk) => chunk.items).every(([, item]) => (item as { id: number }).id >= 10_000)).toBe(true);
  }, 60_000);

  test('nothing of a spooled plan goes out before its end; a crash half-way discards it', async () => {
    const never = gate();
    const crashed = await start(db, [
      jobOf(
        'crashed',
        async function* () {
          yield* numbers(0, 5_500);
          await never.opened;
        },
        { spool: true },
      ),
    ]);
    await crashed.trigger('crashed', 'k');
    await waitFor(async () => (await runOf('crashed'))?.next_seq >= 4, { timeout: 30_000 });
    crashed.time.freeze();
    const other = await start(db, [jobOf('crashed', () => numbers(7_000, 7_700), { spool: true })], { brokers: crashed.brokers });
    expect(await running('crashed')).toMatchObject({ items: '700', sealed: true });
    expect(await storedIds('crashed')).toEqual([...numbers(7_000, 7_700)].map(({ id }) => id));
    await waitFor(() => other.chunks.length + crashed.chunks.length === 2, { timeout: 30_000 });
    expect([...other.chunks, ...crashed.chunks].map((chunk) => chunk.size).sort()).toEqual([200, 500]);
    crashed.time.thaw();
    never.open();
  }, 60_000);

  test('a spooled plan that fails for good leaves nothing to work off, a streamed one keeps what it has', async () => {
    const broken = function* () {
      yield* numbers(0, 1_100);
      throw new Error('no such column');
    };
    const one = await start(db, [jobOf('broken-spool', broken, { spool: true }), jobOf('broken-stream', broken)]);
    await one.trigger('broken-spool', 'k');
    await one.trigger('broken-stream', 'k');
    expect(await running('broken-spool')).toMatchObject({ items: '0', next_seq: 0, sealed: false, plan_error: { code: 'MR1012' } });
    expect(await running('broken-stream')).toMatchObject({ items: '1100', next_seq: 3, sealed: false, plan_failures: 2 });
    expect(await storedIds('broken-spool')).toEqual([]);
    expect(await storedIds('broken-stream')).toHaveLength(1_100);
  }, 90_000);

  test('a resumed source repeats what came after its checkpoint, and that is no duplicate', async () => {
    const cursors: unknown[] = [];
    const one = await start(db, [
      jobOf('resumed', function* (ctx) {
        cursors.push(ctx.cursor);
        const from = (ctx.cursor as number | undefined) ?? 0;
        if (from === 0) {
          yield* numbers(0, 700);
          yield* numbers(690, 700);
          yield ctx.checkpoint(700);
        }
        yield* numbers(700, 1_000);
        yield* numbers(900, 1_000);
        if (from === 0) {
          yield* numbers(1_000, 1_600);
          throw new Error('the source hung up');
        }
        yield* numbers(1_000, 2_000);
      }),
    ]);
    await one.trigger('resumed', 'k');
    expect(await running('resumed')).toMatchObject({ items: '2000', duplicates: '110', sealed: true });
    expect(cursors).toEqual([undefined, 700]);
    expect(await storedIds('resumed')).toEqual([...numbers(0, 2_000)].map(({ id }) => id));
  }, 60_000);

  test('a tick that a fast clock sends early is held until the clock of the database has come to it', async () => {
    // Any number of ticks may be due before: none of them may be in the way of this one.
    const job = jobOf('early', () => [], { schedule: { cron: '*/3 * * * * *', overlap: 'allow', catchUp: 'all' } });
    const one = await start(db, [job]);
    const nominal = Math.ceil((Date.now() + 1_500) / 3_000) * 3_000;
    await one.send(Tick.envelope({ job: 'early', nominal, revision: job.manifest.revision, emittedAt: nominal, clock: 'fast' }, nominal));
    const opened = `select (extract(epoch from opened_at) * 1000)::float8 as at from planner.runs where job = 'early' and nominal = to_timestamp($1::float8 / 1000)`;
    await waitFor(async () => (await db.query(opened, [nominal])).rows.length === 1, { timeout: 30_000 });
    const late = ((await db.query<{ at: number }>(opened, [nominal])).rows[0]?.at ?? 0) - nominal;
    expect(late).toBeGreaterThanOrEqual(-250);
    // The scan, which would find it too, comes after 22 s.
    expect(late).toBeLessThan(15_000);
  }, 60_000);

  test('a new job starts with the tick that was the latest at the instant it was given, however long the start took', async () => {
    const job = jobOf('delayed', () => [], { schedule: { cron: '0 * * * *', overlap: 'allow', catchUp: 'all' } });
    const firstTick = Date.now() - 3 * 3_600_000;
    await start(db, [job], { config: { firstTick } });
    const ticks = async () =>
      (await db.query<{ nominal: Date }>(`select nominal from planner.ticks where job = 'delayed' order by nominal`)).rows;
    await waitFor(async () => (await ticks()).length >= 4, { timeout: 30_000 });
    expect((await ticks())[0]?.nominal.getTime()).toBe(Math.floor(firstTick / 3_600_000) * 3_600_000);
  }, 60_000);

  test('a tick of an outdated schedule opens nothing, nor does one of a job that nobody has loaded', async () => {
    const jobs = ['stale', 'current'].map((name) => jobOf(name, () => [], { schedule: { cron: '0 0 * * *' } }));
    const one = await start(db, jobs, { config: { reconcileEvery: 100 } });
    await waitFor(() => one.store.looks >= 6, { timeout: 30_000 });
    const nominal = Math.floor(Date.now() / 86_400_000) * 86_400_000;
    await db.query(`update planner.jobs set last_nominal = to_timestamp($2::float8 / 1000) where job = any($1::text[])`, [
      ['stale', 'current'],
      nominal - 1_000,
    ]);
    const tick = (job: string, revision: string) =>
      one.send(Tick.envelope({ job, nominal, revision, emittedAt: nominal, clock: 'c' }, nominal));
    await tick('stale', 'of last week');
    await tick('unknown', 'r');
    await tick('current', jobs[1]?.manifest.revision ?? '');
    const runs = async () =>
      (await db.query<{ job: string }>(`select job from planner.runs where job in ('stale', 'current', 'unknown')`)).rows.map(
        ({ job }) => job,
      );
    await waitFor(async () => (await runs()).length > 0, { timeout: 30_000 });
    expect(await runs()).toEqual(['current']);
  }, 60_000);

  test('a run without items is sealed with none', async () => {
    const one = await start(db, [jobOf('none', () => [])]);
    await one.trigger('none', 'k');
    expect(await running('none')).toMatchObject({ items: '0', next_seq: 0, sealed: true });
  }, 60_000);

  test('takeovers do not spend the attempts of a source', async () => {
    let asked = 0;
    const jobs = [
      jobOf('unlucky', function* () {
        yield { id: 1 };
        if (++asked < 3) throw new Error('try again');
      }),
    ];
    await db.query(
      `insert into planner.runs (run_id, job, tick, cause, params, manifest, state, opened_at, plan_epoch)
       values ('unlucky@manual:k', 'unlucky', 'manual:k', 'trigger', '{}', $1, 'opened', now(), 50)`,
      [JSON.stringify(jobs[0]?.manifest)],
    );
    await start(db, jobs);
    expect(await running('unlucky')).toMatchObject({ items: '1', sealed: true, plan_failures: 2 });
  }, 60_000);
});
