import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Chunk, chunkQueue } from '@millrace/core';
import { connectJetStream, connectRabbit, type Delivery } from '@millrace/messaging';
import { connectPostgres, type Database, migrate } from '@millrace/postgres';
import { startNats, startPostgres, startRabbit, type TestServer, waitFor } from '@millrace/testing';
import { connect } from 'amqplib';
import { plannerDefaults } from './config.ts';
import { type Brokers, jobOf, numbers, type PlannerFixture, silent, startPlanner } from './planner-fixture.ts';

const PATIENT = { timeout: 60_000, interval: 50 };

describe('a planner whose servers fail it', () => {
  const servers: TestServer[] = [];
  let rabbit: TestServer;
  let nats: TestServer;
  let postgres: TestServer;
  let db: Database;
  let brokers: Brokers;
  const started: PlannerFixture[] = [];

  beforeAll(async () => {
    [rabbit, nats, postgres] = await Promise.all([startRabbit(), startNats(), startPostgres()]);
    servers.push(rabbit, nats, postgres);
    db = await connectPostgres({ url: postgres.url, max: 12 });
    await migrate(db, [{ schema: 'planner', source: new URL('../migrations', import.meta.url) }]);
    brokers = { work: await connectRabbit({ url: rabbit.url }), events: await connectJetStream({ url: nats.url }) };
  }, 120_000);
  afterEach(async () => {
    await Promise.all(started.splice(0).map(({ planner }) => planner.stop()));
  });
  afterAll(async () => {
    await brokers?.work.close();
    await brokers?.events.close();
    await db?.close();
    await Promise.all(servers.map((server) => server.stop()));
  }, 60_000);

  const start = async (job: ReturnType<typeof jobOf>, scanEvery = 30_000) => {
    const one = await startPlanner(db, [job], { brokers, consume: false, config: { reconcileEvery: 200, scanEvery } });
    started.push(one);
    return one;
  };
  const emits = async (job: string) => {
    const { rows } = await db.query<{ emits: number; n: number }>(
      `select emits, count(*)::integer as n from planner.chunks where job = $1 and state = 'emitted' group by emits order by emits`,
      [job],
    );
    return rows.map((row) => `${row.n}×${row.emits}`).join(' ');
  };
  const backdate = async (job: string, hours: number) => {
    await db.query(`update planner.chunks set emitted_at = now() - $2 * interval '1 hour' where job = $1`, [job, hours]);
    await db.query(`update planner.runs set progress_at = now() - $2 * interval '1 hour' where job = $1`, [job, hours]);
  };
  const looksMore = async ({ store }: PlannerFixture, times: number) => {
    const before = store.looks;
    await waitFor(() => store.looks >= before + times, PATIENT);
  };
  const readOf = (delivery: Delivery): Chunk => {
    const read = Chunk.read(delivery);
    if (!read.ok) throw new Error(read.reason);
    return read.message.data;
  };

  test('a consumer that is slow, with a backlog of six hours, is left in peace; one that lost its chunks is not', async () => {
    const job = jobOf('slow', () => numbers(0, 10_000));
    const one = await start(job);
    const held: Chunk[] = [];
    let letGo: () => void = () => undefined;
    const until = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const consumer = await brokers.work.subscribe(chunkQueue('slow'), { durable: 'x', prefetch: 1 }, async (deliveries) => {
      held.push(...deliveries.map(readOf));
      await until;
      return deliveries.map(() => ({ kind: 'done' }) as const);
    });
    await one.trigger('slow', 'k');
    await waitFor(async () => held.length === 1 && (await emits('slow')) === '20×1', PATIENT);
    await backdate('slow', 6);
    await looksMore(one, 10);
    expect(await emits('slow')).toBe('20×1');

    // It takes everything, tells nobody, and goes.
    letGo();
    await waitFor(() => held.length === 20, PATIENT);
    await consumer.drain();
    await waitFor(async () => (await emits('slow')) === '20×2', PATIENT);
  }, 120_000);

  test('a work queue that is deleted comes back with all that it held', async () => {
    const one = await start(jobOf('deleted', () => numbers(0, 5_000)));
    await one.trigger('deleted', 'k');
    await waitFor(async () => (await emits('deleted')) === '10×1', PATIENT);
    const connection = await connect(rabbit.url);
    const channel = await connection.createChannel();
    expect((await channel.deleteQueue(chunkQueue('deleted'))).messageCount).toBe(10);
    await connection.close();
    await waitFor(async () => (await brokers.work.inspect(chunkQueue('deleted')))?.ready === 10, PATIENT);
    expect(await emits('deleted')).toBe('10×2');
  }, 120_000);

  test('while the event broker is away ticks still become runs, and when it comes back empty they are planned and lost facts told again', async () => {
    // Every second of these days is due; nobody sends a tick.
    const job = jobOf('wiped', () => numbers(0, 500), { schedule: { cron: '* * * * * *', overlap: 'allow' } });
    const one = await start(job, 200);
    const runs = async (condition = 'true') =>
      (await db.query<{ n: number }>(`select count(*)::integer as n from planner.runs where job = 'wiped' and ${condition}`)).rows[0]?.n ??
      0;
    await waitFor(async () => (await runs(`state = 'running'`)) >= 1, PATIENT);
    // A processor took the chunk, and its fact will be lost with the broker.
    const consumer = await brokers.work.subscribe(chunkQueue('wiped'), { durable: 'x' }, async (deliveries) =>
      deliveries.map(() => ({ kind: 'done' }) as const),
    );
    await waitFor(async () => (await brokers.work.inspect(chunkQueue('wiped')))?.ready === 0, PATIENT);

    await nats.kill();
    const before = await runs();
    await waitFor(async () => (await runs()) >= before + 2, PATIENT);
    const { rows } = await db.query<{ at: Date }>('select clock_timestamp() as at');
    await nats.reset();
    await waitFor(async () => (await runs(`state = 'running' and facts <> '[]' and not owed`)) >= before + 2, PATIENT);
    await waitFor(
      async () =>
        (
          await db.query(`select 1 from planner.chunks where job = 'wiped' and seq = 0 and emits = 2 and emitted_at > $1 limit 1`, [
            rows[0]?.at,
          ])
        ).rows.length === 1,
      PATIENT,
    );
    expect(one.planner.ready()).toEqual([]);
    await consumer.drain();
  }, 180_000);

  test('while the database is away, each loop of a planner says so once however often it tries, and all go on when it is back', async () => {
    const said: string[] = [];
    const log = { ...silent, warn: (_: unknown, text = '') => void said.push(text), info: (_: unknown, text = '') => void said.push(text) };
    const one = await startPlanner(db, [jobOf('patient', () => numbers(0, 500))], {
      brokers,
      consume: false,
      log: { ...log, child: () => log as never } as never,
      config: { reconcileEvery: 100, scanEvery: 100 },
    });
    started.push(one);
    await looksMore(one, 1);
    await postgres.kill();
    await looksMore(one, 20);
    await postgres.restart();
    await one.trigger('patient', 'k');
    await waitFor(async () => (await emits('patient')) === '1×1', PATIENT);
    const times = (text: string) => said.filter((line) => line === text).length;
    // Its session was ended, its connections were refused: two kinds of error.
    expect(times('reconcile failed; trying again')).toBeLessThanOrEqual(2);
    expect(times('scan failed; trying again')).toBeLessThanOrEqual(2);
    expect(times('planning failed; trying again')).toBeLessThanOrEqual(2 * plannerDefaults.planning);
    // A loop that rests from its trouble says so when its pause is over.
    for (const loop of ['reconcile', 'planning', 'dispatch']) await waitFor(() => said.includes(`${loop} works again`), PATIENT);
  }, 120_000);
});
