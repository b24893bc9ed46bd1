import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Chunk, ChunkSettled, chunkQueue, decodeStates, done, PARKED_QUEUE } from '@millrace/core';
import { connectJetStream, connectRabbit, type EventBroker, type WorkBroker } from '@millrace/messaging';
import { connectPostgres, type Database } from '@millrace/postgres';
import { type Platform, type Service, systemTime } from '@millrace/runtime';
import { startNats, startPostgres, startRabbit, type TestServer, waitFor } from '@millrace/testing';
import type { Job, ProcessContext, SinkTransaction } from 'millrace';
import { quietLog, sampleChunk, sampleJob } from './processor-samples.ts';
import { wireProcessor } from './wiring.ts';

const servers: TestServer[] = [];
let rabbitUrl: string;
let database: Database;
let work: WorkBroker;
let events: EventBroker;
/** How often each chunk was told, its latest fact, and what was sent. */
const told = new Map<string, number>();
const facts = new Map<string, ChunkSettled>();
const sent = new Map<string, Chunk>();
let handedBack = 0;

beforeAll(async () => {
  const [rabbit, nats, postgres] = await Promise.all([
    startRabbit(),
    startNats(),
    startPostgres({ settings: { deadlock_timeout: '50ms' } }),
  ]);
  servers.push(rabbit, nats, postgres);
  rabbitUrl = rabbit.url;
  [work, events, database] = await Promise.all([
    connectRabbit({ url: rabbit.url }),
    connectJetStream({ url: nats.url }),
    connectPostgres({ url: postgres.url }),
  ]);
  await events.subscribe('millrace.facts.chunk.settled.>', { durable: 'test' }, async (deliveries) => {
    for (const delivery of deliveries) {
      const read = ChunkSettled.read(delivery);
      if (!read.ok) throw new Error(read.reason);
      const fact = read.message.data;
      const chunk = `${fact.job}/${fact.seq}`;
      told.set(chunk, (told.get(chunk) ?? 0) + 1);
      facts.set(chunk, fact);
      await resend(fact);
    }
    return deliveries.map(() => done);
  });
}, 120_000);

afterAll(async () => {
  await Promise.all([work?.close(), events?.close(), database?.close()]);
  await Promise.all(servers.map((server) => server.stop()));
}, 60_000);

/** What the planner does: pending items go again, as the same attempt. */
async function resend({ job, seq, size, attempt, outcomes }: ChunkSettled): Promise<void> {
  const positions = (decodeStates(outcomes, size) ?? []).flatMap((state, position) => (state === 'p' ? [position] : []));
  const whole = sent.get(`${job}/${seq}`);
  if (positions.length === 0 || !whole) return;
  handedBack++;
  await publish(job, [{ ...whole, attempt, positions, items: positions.map((position) => whole.items[position] as [string, unknown]) }]);
}

function send(job: string, chunks: readonly Chunk[]): Promise<void> {
  for (const chunk of chunks) sent.set(`${job}/${chunk.seq}`, chunk);
  return publish(job, chunks);
}

function publish(job: string, chunks: readonly Chunk[]): Promise<void> {
  return work.publish(chunks.map((chunk) => Chunk.envelope({ ...chunk, job, runId: `${job}@manual:1`, openedAt: Date.now() }, Date.now())));
}

async function start(job: Job, own: WorkBroker): Promise<Service> {
  const jobs = new Map([[job.name, job]]);
  const platform: Platform = { instance: 'test', time: systemTime, random: Math.random, log: quietLog, database, work: own, events, jobs };
  const service = wireProcessor(platform);
  await service.start();
  return service;
}

function named(name: string, job: Job): Job {
  return { ...job, name, manifest: { ...job.manifest, name } };
}

test('two chunks whose effects deadlock are both applied, and no item spends an attempt', async () => {
  await database.query('create table accounts (id text primary key, n integer not null)');
  await database.query(`insert into accounts values ('a', 0), ('b', 0)`);
  const add = (tx: SinkTransaction, id: string) => tx.query('update accounts set n = n + 1 where id = $1', [id]);
  let held = 0;
  let bothHold = () => {};
  const both = new Promise<void>((resolve) => (bothHold = resolve));
  const write = async (effects: readonly unknown[], tx: SinkTransaction) => {
    const [first, second] = effects as [string, string];
    await add(tx, first);
    if (++held === 2) bothHold();
    await both;
    await add(tx, second);
  };
  const job = named('deadlock', sampleJob({ process: (item) => item, write, attempts: 1 }));
  await work.ensure(chunkQueue(job.name), async () => {});
  const service = await start(job, work);
  try {
    await send(job.name, [
      {
        ...sampleChunk(2),
        items: [
          ['k0', 'a'],
          ['k1', 'b'],
        ],
      },
      {
        ...sampleChunk(2, { seq: 1 }),
        items: [
          ['k0', 'b'],
          ['k1', 'a'],
        ],
      },
    ]);
    await waitFor(() => facts.has('deadlock/0') && facts.has('deadlock/1'), { timeout: 20_000 });
  } finally {
    await service.stop(1_000);
  }
  for (const seq of [0, 1]) expect(facts.get(`deadlock/${seq}`)).toMatchObject({ attempt: 1, outcomes: '2a', failures: [] });
  expect((await database.query('select id, n from accounts order by id')).rows).toEqual([
    { id: 'a', n: 2 },
    { id: 'b', n: 2 },
  ]);
  // PostgreSQL saw it, and a transaction ran again.
  expect(held).toBeGreaterThan(2);
}, 60_000);

test('a chunk that is sent again is told again, although the event broker drops what it has seen a moment ago', async () => {
  let runs = 0;
  const job = named('again', sampleJob({ process: () => (runs++, {}), write: async () => undefined }));
  await work.ensure(chunkQueue(job.name), async () => {});
  const service = await start(job, work);
  try {
    const chunk = sampleChunk(3);
    await send(job.name, [chunk]);
    await waitFor(() => told.get('again/0') === 1, { timeout: 20_000 });
    // A planner whose record of the first fact is gone asks for it; whoever waits for an answer in vain sends the whole chunk.
    await publish(job.name, [{ ...chunk, items: [], positions: [] }]);
    await waitFor(() => told.get('again/0') === 2, { timeout: 20_000 });
    await publish(job.name, [{ ...chunk, emits: 2 }]);
    await waitFor(() => told.get('again/0') === 3, { timeout: 20_000 });
  } finally {
    await service.stop(1_000);
  }
  expect(runs).toBe(3);
}, 60_000);

test('twenty rolling restarts under load: everything applied once, nothing parked', async () => {
  const CHUNKS = 120;
  const SIZE = 100;
  await database.query('create table rolled (chunk integer not null, n integer not null)');
  const process = async (item: unknown, { signal }: ProcessContext) => {
    await systemTime.sleep(5 + Math.random() * 20, signal);
    signal.throwIfAborted();
    return item;
  };
  const write = (effects: readonly unknown[], tx: SinkTransaction) =>
    tx.query('insert into rolled select chunk, n from json_to_recordset($1::json) as x(chunk int, n int)', [JSON.stringify(effects)]);
  const job = named('rolling', sampleJob({ process, write, attempts: 1 }));
  await work.ensure(chunkQueue(job.name), async () => {});
  const chunks = Array.from({ length: CHUNKS }, (_, seq): Chunk => {
    const chunk = sampleChunk(SIZE, { seq });
    return { ...chunk, items: chunk.items.map(([key], n) => [key, { chunk: seq, n }]) };
  });
  await send(job.name, chunks);

  const running: { service: Service; broker: WorkBroker }[] = [];
  const add = async () => {
    const broker = await connectRabbit({ url: rabbitUrl });
    running.push({ broker, service: await start(job, broker) });
  };
  const stopOldest = async (graceMs: number) => {
    const oldest = running.shift();
    await oldest?.service.stop(graceMs);
    await oldest?.broker.close();
  };
  const settled = () => [...facts.values()].filter((fact) => fact.job === job.name && !/[pf]/.test(fact.outcomes)).length;
  await add();
  await add();
  let atWork = 0;
  for (let restart = 0; restart < 20; restart++) {
    const before = settled();
    await add();
    // Short graces cut items off, long ones let them end.
    await stopOldest(restart % 2 === 0 ? 150 : 3_000);
    if (settled() < CHUNKS && settled() > before) atWork++;
  }
  await waitFor(() => settled() === CHUNKS, { timeout: 30_000 });
  while (running.length > 0) await stopOldest(3_000);

  expect(atWork).toBeGreaterThan(0);
  expect(handedBack).toBeGreaterThan(0);
  const { rows } = await database.query('select count(*)::integer as n, count(distinct (chunk, n))::integer as different from rolled');
  expect(rows).toEqual([{ n: CHUNKS * SIZE, different: CHUNKS * SIZE }]);
  expect(await work.inspect(PARKED_QUEUE)).toMatchObject({ ready: 0 });
}, 90_000);
