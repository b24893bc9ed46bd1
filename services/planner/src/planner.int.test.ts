import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Chunk, type ChunkSettled, manualTick, runIdOf, ChunkSettled as Settled, Tick, Trigger } from '@millrace/core';
import { type Delivery, openMemoryBrokers } from '@millrace/messaging';
import { type Database, migrate, openPglite } from '@millrace/postgres';
import { type Platform, systemTime } from '@millrace/runtime';
import { waitFor } from '@millrace/testing';
import { defineJob, type Job } from 'millrace';
import { wirePlanner } from './wiring.ts';

let db: Database;
beforeAll(async () => {
  db = await openPglite();
  await migrate(db, [{ schema: 'planner', source: new URL('../migrations', import.meta.url) }]);
}, 60_000);
afterAll(() => db?.close());

const silent = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };
/** A planner on its own brokers, and every chunk that it sends. */
async function plan(job: Job) {
  const brokers = openMemoryBrokers();
  const platform: Platform = {
    instance: 'test',
    time: systemTime,
    random: () => 0,
    log: silent,
    database: db,
    ...brokers,
    jobs: new Map([[job.name, job]]),
  };
  const planner = wirePlanner(platform, { alone: true });
  await planner.start();
  const chunks: Chunk[] = [];
  await brokers.work.subscribe(`millrace.chunks.${job.name}`, { durable: 'x' }, async (deliveries) =>
    deliveries.map((delivery) => {
      const read = Chunk.read(delivery);
      if (!read.ok) throw new Error(read.reason);
      chunks.push(read.message.data);
      return { kind: 'done' };
    }),
  );
  const trigger = (key: string, more: object = {}) =>
    brokers.events.publish([Trigger.envelope({ job: job.name, key, requestedAt: Date.now(), ...more }, Date.now())]);
  const run = async (key: string) =>
    (
      await db.query<{
        state: string;
        items: string;
        duplicates: string;
        sealed: boolean;
        plan_error: { code: string; message: string } | null;
      }>('select * from planner.runs where run_id = $1', [runIdOf(job.name, manualTick(key))])
    ).rows[0];
  const ended = async (key: string) => {
    await waitFor(async () => (await run(key))?.state === 'running', { timeout: 20_000 });
    return run(key);
  };
  const settle = (over: Partial<ChunkSettled> & Pick<ChunkSettled, 'runId' | 'size' | 'outcomes'>) =>
    brokers.events.publish([
      Settled.envelope(
        {
          job: job.name,
          generation: 0,
          seq: 0,
          attempt: 1,
          failures: [],
          skips: {},
          settledAt: 1,
          timing: { queued: 0, process: 0, commit: 0 },
          ...over,
        },
        1,
      ),
    ]);
  return { planner, chunks, trigger, ended, settle, events: brokers.events };
}

const jobOf = (
  name: string,
  source: () => Iterable<unknown> | AsyncIterable<unknown>,
  key: (item: never) => unknown = (item: { id: number }) => item.id,
) =>
  defineJob(name, { retry: { attempts: 3, base: 1 } })
    .items(source as never, { key: key as never })
    .process((item) => item as never)
    .commit(() => {}) as unknown as Job;

describe('planner', () => {
  test('a key seen again is planned once and counted as a duplicate', async () => {
    const { planner, trigger, ended, chunks } = await plan(
      jobOf('dups', function* () {
        for (let i = 0; i < 1_200; i++) yield { id: i % 1_000 };
      }),
    );
    await trigger('a');
    expect(await ended('a')).toMatchObject({ items: '1000', duplicates: '200', sealed: true });
    await waitFor(() => chunks.length === 2);
    expect(new Set(chunks.flatMap((chunk) => chunk.items.map(([key]) => key))).size).toBe(1_000);
    await planner.stop();
  });

  test('a source that fails half-way is asked again, and what is stored is not planned twice', async () => {
    let asked = 0;
    const job = jobOf('flaky', function* () {
      asked++;
      for (let i = 0; i < 1_600; i++) {
        if (asked === 1 && i === 1_100) throw new Error('the source hung up');
        yield { id: i };
      }
    });
    const { planner, trigger, ended } = await plan(job);
    await trigger('a');
    expect(await ended('a')).toMatchObject({ items: '1600', duplicates: '0', sealed: true });
    expect(asked).toBe(2);
    await planner.stop();
  });

  test('a chunk that a planner claimed and never sent is due again, one that was sent is not', async () => {
    const { planner, trigger, ended, chunks } = await plan(jobOf('claimed', () => Array.from({ length: 501 }, (_, id) => ({ id }))));
    await trigger('a');
    await ended('a');
    await waitFor(() => chunks.length === 2);
    const sent = `select seq from planner.chunks where job = 'claimed' and emitted_at is not null order by seq`;
    await waitFor(async () => (await db.query(sent)).rows.length === 2, { what: 'the broker to confirm both' });
    // As a planner leaves them that died after its claim; the other is long overdue too, but was confirmed.
    await db.query(`update planner.chunks set due_at = now() - interval '1 second' where job = 'claimed'`);
    await db.query(`update planner.chunks set emitted_at = null where job = 'claimed' and seq = 1`);
    await waitFor(() => chunks.length === 3, { timeout: 20_000 });
    await waitFor(async () => (await db.query(sent)).rows.length === 2);
    expect(chunks.map((chunk) => chunk.seq).sort()).toEqual([0, 1, 1]);
    await planner.stop();
  });

  test('a planner that stops leaves a mark of what the broker has confirmed: nothing of it is sent again', async () => {
    const { planner, trigger, ended } = await plan(jobOf('stopped', () => Array.from({ length: 501 }, (_, id) => ({ id }))));
    await trigger('a');
    await ended('a');
    await planner.stop();
    const { rows } = await db.query(`select seq from planner.chunks where job = 'stopped' and state = 'emitted' and emitted_at is null`);
    expect(rows).toEqual([]);
  });

  test.each([
    ['no-key', () => [{ id: 1 }, {}], 'MR1005'],
    ['no-json', () => [{ id: 1, at: new Date() }], 'MR1006'],
    ['too-big', () => [{ id: 1, text: 'x'.repeat(17_000_000) }], 'MR1007'],
    [
      'broken',
      () => {
        throw new Error('no such table');
      },
      'MR1012',
    ],
  ])(
    'a bad item or source (%s) fails the plan with its code',
    async (name, source, code) => {
      const { planner, trigger, ended } = await plan(jobOf(name, source as never));
      await trigger('a');
      expect((await ended('a'))?.plan_error).toMatchObject({ code });
      await planner.stop();
    },
    60_000,
  );

  test('only the failed items of a chunk are sent again, as the next attempt', async () => {
    const { planner, trigger, ended, settle, chunks } = await plan(jobOf('again', () => [{ id: 'a' }, { id: 'b' }, { id: 'c' }]));
    await trigger('k');
    await ended('k');
    const settled = {
      runId: 'again@manual:k',
      size: 3,
      outcomes: '1a1f1a',
      failures: [{ position: 1, key: 'b', fingerprint: 'f', title: 't', message: 'm', class: 'transient' as const }],
    };
    await settle(settled);
    await settle(settled);
    await waitFor(() => chunks.length === 2);
    expect(chunks[1]).toMatchObject({ attempt: 2, size: 3, positions: [1], items: [['b', { id: 'b' }]] });
    await planner.stop();
  });

  test('the same trigger twice and the same tick from two clocks give one run each', async () => {
    const job = defineJob('ticked', { schedule: { cron: '0 0 * * *' } })
      .items(() => [{ id: 1 }], { key: (i) => i.id })
      .process((i) => i)
      .commit(() => {}) as unknown as Job;
    const { planner, trigger, ended, events } = await plan(job);
    await trigger('a');
    await trigger('a');
    await ended('a');
    const nominal = Math.floor(Date.now() / 86_400_000) * 86_400_000;
    await db.query(`update planner.jobs set last_nominal = to_timestamp($1::float8 / 1000) where job = 'ticked'`, [nominal - 1_000]);
    await db.query(`update planner.runs set state = 'closed' where job = 'ticked'`);
    const tick = { job: 'ticked', nominal, revision: job.manifest.revision, emittedAt: nominal };
    await events.publish([Tick.envelope({ ...tick, clock: 'one' }, 1)]);
    await events.publish([Tick.envelope({ ...tick, clock: 'two' }, 2)]);
    await waitFor(async () => (await db.query(`select 1 from planner.runs where job = 'ticked' and cause = 'tick'`)).rows.length === 1);
    const { rows } = await db.query<{ cause: string; n: string }>(
      `select cause, count(*) as n from planner.runs where job = 'ticked' group by cause order by cause`,
    );
    expect(rows).toEqual([
      { cause: 'tick', n: '1' },
      { cause: 'trigger', n: '1' },
    ]);
    await planner.stop();
  });

  test('stop before start and twice are fine', async () => {
    const { planner } = await plan(jobOf('stopped', () => []));
    await planner.stop();
    await planner.stop();
  });

  test('settled chunks gather only as long as the window of a run does not run dry', async () => {
    const gathered = async (window: number, facts: number) => {
      const { work, events } = openMemoryBrokers();
      const subscribe = jest.spyOn(events, 'subscribe');
      const platform = { instance: 'test', time: systemTime, random: () => 0, log: silent, database: db, work, events, jobs: new Map() };
      const planner = wirePlanner(platform, { alone: true, window });
      await planner.start();
      await planner.stop();
      const [, settled] = subscribe.mock.calls.find(([, { durable }]) => durable === 'planner-settled') ?? [];
      return settled?.enough?.(new Array<Delivery>(facts).fill({} as Delivery));
    };
    expect(await gathered(1_000, 124)).toBe(false);
    expect(await gathered(1_000, 125)).toBe(true);
    expect(await gathered(8, 1)).toBe(true);
    expect(await gathered(1, 1)).toBe(true);
  });
});
