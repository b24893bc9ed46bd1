import { beforeAll, describe, expect, test } from '@jest/globals';
import type { Chunk } from '@millrace/core';
import type { EventBroker } from '@millrace/messaging';
import { type ProcessContext, postgres } from 'millrace';
import { SinkInboxes } from './adapters/sink-inboxes.ts';
import { Breaker } from './breaker.ts';
import { ChunkTraces } from './chunk-traces.ts';
import type { ItemResult } from './domain/results.ts';
import type { Isolation } from './isolation.ts';
import { applied, copied, database, insert, start, timeless, useProcessor } from './processor-fixture.ts';
import { quietLog, sampleChunk, sampleJob, samplePlatform } from './processor-samples.ts';
import { SettleChunk } from './settle-chunk.ts';
import { Slots } from './slots.ts';

useProcessor();

test('a redelivery runs nothing, applies nothing and publishes the same fact', async () => {
  let runs = 0;
  const { send, fact } = await start(sampleJob({ process: (item) => (runs++, item), write: insert, attempts: 1 }));
  await send(sampleChunk(3));
  const first = await fact(1);
  // The memory broker counts a message sent again as a first delivery: the insert has to find the duplicate.
  await send(sampleChunk(3));
  expect(timeless(await fact(2))).toEqual(timeless(first));
  expect(await applied()).toEqual(['k0', 'k1', 'k2']);
  await send(sampleChunk(3, { attempt: 2 }));
  expect(timeless(await fact(3))).toEqual(timeless(first));
  expect(runs).toBe(6);
});

test('two deliveries of one chunk at the same time give one effect per item', async () => {
  let release = () => {};
  const both = new Promise<void>((resolve) => (release = resolve));
  let runs = 0;
  const process = async (item: unknown) => {
    if (++runs === 4) release();
    await both;
    return item;
  };
  const { send, fact } = await start(sampleJob({ process, write: insert }));
  await send(sampleChunk(2), sampleChunk(2));
  const first = await fact(1);
  expect(timeless(await fact(2))).toEqual(timeless(first));
  expect(await applied()).toEqual(['k0', 'k1']);
});

test('a crash between commit and publish loses no fact and doubles no effect', async () => {
  let crashes = 1;
  const crashing = (real: EventBroker): EventBroker => ({
    system: real.system,
    connected: () => real.connected(),
    close: () => real.close(),
    bucket: (name) => real.bucket(name),
    subscribe: (...args) => real.subscribe(...args),
    publish: async (...args) => {
      if (crashes-- > 0) throw new Error('killed');
      return real.publish(...args);
    },
  });
  let runs = 0;
  const { send, fact } = await start(sampleJob({ process: (item) => (runs++, item), write: insert }), crashing);
  await send(sampleChunk(3));
  expect((await fact(1)).outcomes).toBe('3a');
  expect(await applied()).toEqual(['k0', 'k1', 'k2']);
  expect(runs).toBe(3);
});

test('a chunk without items is answered from the inbox; without a row it is parked, not made up', async () => {
  const { send, fact, parked } = await start(sampleJob({ process: copied, write: insert }));
  await send(sampleChunk(3));
  expect((await fact(1)).outcomes).toBe('3a');
  await send({ ...sampleChunk(3), items: [], positions: [] });
  expect((await fact(2)).outcomes).toBe('3a');
  await send({ ...sampleChunk(3), seq: 9, items: [], positions: [] });
  expect(JSON.stringify(await parked(1))).toContain('MR4003');
});

describe('the fence against late duplicates', () => {
  const DAY = 86_400_000;
  const at = (now: number) => ({ now: () => now });
  const rows = async () =>
    (await database.query<{ seq: number }>('select seq from millrace.inbox order by seq')).rows.map((row) => row.seq);
  const fenceOff = () => database.query('delete from millrace.inbox_fence');

  test('a chunk whose run is within a day of the age of purged inboxes is parked, a younger one runs', async () => {
    const { send, fact, parked } = await start(sampleJob({ process: copied, write: insert }), undefined, database, at(100 * DAY));
    await send(sampleChunk(1, { openedAt: 71 * DAY - 1 }), sampleChunk(1, { seq: 1, openedAt: 71 * DAY + 1 }));
    expect(Object.values((await parked(1))[0]?.headers ?? {}).join()).toContain('MR4004');
    expect(await fact(1)).toMatchObject({ seq: 1, outcomes: '1a' });
    expect(await applied()).toEqual(['k0']);
  });

  test('a purge deletes old rows only, and from then on nobody applies a duplicate of what it deleted', async () => {
    const job = sampleJob({ process: copied, write: insert });
    const { send, fact, parked } = await start(job);
    await send(sampleChunk(1, { openedAt: 5 }), sampleChunk(1, { seq: 1, openedAt: Date.now() }));
    await fact(2);
    await database.query(`update millrace.inbox set settled_at = now() - interval '31 days' where seq = 0`);
    const { random, time } = samplePlatform(database, job);
    const inboxes = new SinkInboxes(database, time, random);
    await inboxes.open(job);
    try {
      expect(await inboxes.purge(30 * DAY)).toBe(1);
      expect(await rows()).toEqual([1]);
      // The clock of this processor says 1970: its own look at the age does not help, the fence in the database does.
      await send(sampleChunk(1, { openedAt: 5 }));
      expect(Object.values((await parked(1))[0]?.headers ?? {}).join()).toContain('MR4004');
      expect(await applied()).toEqual(['k0', 'k0']);
    } finally {
      await fenceOff();
    }
  });

  test('rows written in one round trip stop at it as well', async () => {
    await database.query(`insert into millrace.inbox_fence (purged_before) values (now() - interval '1 day')`);
    try {
      const sink = postgres.insert('target', ['id', 'n']);
      const { send, parked } = await start(sampleJob({ process: copied, sink }));
      await send(sampleChunk(1, { openedAt: 5 }));
      expect(Object.values((await parked(1))[0]?.headers ?? {}).join()).toContain('MR4004');
      expect(await applied()).toEqual([]);
    } finally {
      await fenceOff();
    }
  });
});

describe('items too big to travel', () => {
  const claim = (size: number, over: Partial<Chunk> = {}, positions?: number[]) => ({
    ...sampleChunk(size, over, positions),
    items: [],
    claim: true as const,
  });
  beforeAll(async () => {
    await database.query('create schema planner');
    await database.query('create table planner.chunks (run_id text, generation integer, seq integer, payload text)');
    await database.query(`insert into planner.chunks values ('sync@manual:1', 0, 0, $1)`, [JSON.stringify(sampleChunk(3).items)]);
  });

  test('are fetched from the plan, all or those of the positions that the message names', async () => {
    const ran: string[] = [];
    const process = (item: unknown, { attempt }: ProcessContext) => {
      ran.push(`${attempt}:${(item as { id: string }).id}`);
      if ((item as { n: number }).n === 1 && attempt === 1) throw new Error('busy');
      return item;
    };
    const { send, fact } = await start(sampleJob({ process, write: insert }));
    await send(claim(3));
    expect((await fact(1)).outcomes).toBe('1a1f1a');
    await send(claim(3, { attempt: 2 }, [1]));
    expect((await fact(2)).outcomes).toBe('3a');
    // Another claim of what is settled fetches nothing and runs nothing.
    await send(claim(3, { attempt: 2 }, [1]));
    expect((await fact(3)).outcomes).toBe('3a');
    expect(ran).toEqual(['1:k0', '1:k1', '1:k2', '2:k1']);
    expect(await applied()).toEqual(['k0', 'k1', 'k2']);
  });

  test('that are gone with their plan park the message; a message that claims and carries items contradicts itself', async () => {
    const { send, parked } = await start(sampleJob({ process: copied, write: insert }));
    await send(claim(3, { seq: 9 }), { ...sampleChunk(3), claim: true });
    const reasons = (await parked(2)).map(({ headers }) => Object.values(headers).join());
    expect(reasons.filter((reason) => reason.includes('MR4005'))).toHaveLength(1);
    expect(reasons.filter((reason) => reason.includes('MR4001'))).toHaveLength(1);
  });
});

describe('a chunk that was delivered before', () => {
  const isolated = (results: ItemResult[]): Isolation & { calls: number } => ({
    calls: 0,
    async run({ todo }) {
      this.calls++;
      const known = todo.flatMap((index): [number, ItemResult][] => (results[index] ? [[index, results[index]]] : []));
      return { results: new Map(known), death: undefined, underWay: [] };
    },
    close: async () => undefined,
  });
  const settle = async (chunk: Chunk, deliveries: number, isolation: Isolation) => {
    const job = sampleJob({ process: () => ({ id: 'here' }), write: () => undefined });
    const { time, random } = samplePlatform(database, job);
    const breaker = new Breaker('it', time, random, quietLog);
    const inbox = await new SinkInboxes(database, time, random).open(job);
    const { signal } = new AbortController();
    const log = quietLog;
    const options = {
      job,
      inbox,
      database: breaker,
      outside: breaker,
      slots: new Slots(4),
      payloads: undefined,
      claims: new Slots(1),
      time,
      log,
      budget: 1e6,
      signal,
      isolation,
    };
    const trace = new ChunkTraces('memory', time).begin(chunk, {}, 0, deliveries);
    return new SettleChunk({ ...options, watchdog: undefined }).settle(chunk, 0, deliveries, trace);
  };
  const there: ItemResult[] = [
    { state: 'a', effect: {} },
    { state: 's', reason: 'there' },
  ];

  test.each([
    ['by the count of its broker', {}, 2],
    ['by the count of its planner', { emits: 2 }, 1],
  ])('%s, runs in another process', async (_, over, deliveries) => {
    const isolation = isolated(there);
    expect(await settle(sampleChunk(2, over), deliveries, isolation)).toMatchObject({ outcomes: '1a1s', skips: { there: 1 } });
    expect(isolation.calls).toBe(1);
    // And whatever is known already does not run at all.
    expect(await settle(sampleChunk(2, over), 5, isolation)).toMatchObject({ outcomes: '1a1s' });
    expect(isolation.calls).toBe(1);
  });

  test('a first delivery runs here', async () => {
    const isolation = isolated(there);
    expect(await settle(sampleChunk(2), 1, isolation)).toMatchObject({ outcomes: '2a' });
    expect(isolation.calls).toBe(0);
  });

  test('items without a result stay pending, and the next delivery of the same attempt takes them', async () => {
    expect(await settle(sampleChunk(3), 2, isolated([{ state: 'a', effect: {} }] as ItemResult[]))).toMatchObject({
      outcomes: '1a2p',
      attempt: 1,
    });
    expect(await settle(sampleChunk(3, {}, [1, 2]), 1, isolated(there))).toMatchObject({ outcomes: '3a', attempt: 1 });
  });

  test('when no item had time nothing is told', async () => {
    const idle: Isolation = { run: async () => ({ results: new Map(), death: undefined, underWay: [] }), close: async () => undefined };
    expect(await settle(sampleChunk(3), 2, idle)).toBeUndefined();
  });
});
