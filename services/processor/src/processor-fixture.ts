import { afterAll, afterEach, beforeAll, beforeEach } from '@jest/globals';
import { Chunk, ChunkSettled, chunkQueue, type Envelope, PARKED_QUEUE, type Time } from '@millrace/core';
import { type Delivery, type EventBroker, openMemoryBrokers } from '@millrace/messaging';
import { type Database, openPglite } from '@millrace/postgres';
import type { Job, SinkTransaction } from 'millrace';
import { samplePlatform } from './processor-samples.ts';
import { wireProcessor } from './wiring.ts';

export let database: Database;
export let brokers: ReturnType<typeof openMemoryBrokers>;
let stop: () => Promise<void>;

/** For a file of tests: one embedded database, emptied before each, and whatever a test has started is stopped after it. */
export function useProcessor(): void {
  beforeAll(async () => {
    database = await openPglite({});
    await database.query('create table target (id text not null, n int check (n < 1000))');
  }, 120_000);
  afterAll(() => database.close());
  beforeEach(async () => {
    stop = async () => undefined;
    await database.query('delete from target');
    await database.query(`do $$ begin if to_regclass('millrace.inbox') is not null then delete from millrace.inbox; end if; end $$`);
  });
  afterEach(() => stop());
}

/** A processor for the job, what it published, and what it parked. */
export async function start(
  job: Job,
  events: (real: EventBroker) => EventBroker = (real) => real,
  store: Database = database,
  time: Partial<Time> = {},
) {
  const sample = samplePlatform(store, job);
  const platform = { ...sample, time: { ...sample.time, ...time } };
  brokers = openMemoryBrokers(platform.time);
  await brokers.work.ensure(chunkQueue(job.name), async () => {});
  const facts = await collect((take) => brokers.events.subscribe('millrace.facts.chunk.settled.>', { durable: 'test' }, take));
  const parked = await collect((take) => brokers.work.subscribe(PARKED_QUEUE, { durable: 'test' }, take));
  const service = wireProcessor({ ...platform, work: brokers.work, events: events(brokers.events) });
  await service.start();
  stop = () => service.stop();
  const send = (...chunks: Chunk[]) => brokers.work.publish(chunks.map((chunk) => Chunk.envelope(chunk, 1_000)));
  /** The fact number `n` (from 1). */
  const fact = async (n: number): Promise<ChunkSettled> => {
    const read = ChunkSettled.read((await facts(n))[n - 1] as Envelope);
    if (!read.ok) throw new Error(read.reason);
    return read.message.data;
  };
  return { service, send, fact, parked };
}

async function collect(subscribe: (take: (deliveries: readonly Delivery[]) => Promise<{ kind: 'done' }[]>) => Promise<unknown>) {
  const seen: Delivery[] = [];
  const waiting: (() => void)[] = [];
  await subscribe(async (deliveries) => {
    seen.push(...deliveries);
    for (const wake of waiting.splice(0)) wake();
    return deliveries.map(() => ({ kind: 'done' }));
  });
  return async (n: number) => {
    while (seen.length < n) await new Promise<void>((resolve) => waiting.push(resolve));
    return seen;
  };
}

export async function applied(): Promise<string[]> {
  const { rows } = await database.query<{ id: string }>('select id from target order by id');
  return rows.map((row) => row.id);
}

export const insert = (effects: readonly unknown[], tx: SinkTransaction) =>
  tx.query('insert into target select id, n from json_to_recordset($1::json) as x(id text, n int)', [JSON.stringify(effects)]);
export const copied = (item: unknown) => item;
export const timeless = ({ timing: _, ...fact }: ChunkSettled) => fact;
