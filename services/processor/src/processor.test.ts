import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Chunk, ChunkSettled, chunkQueue, type Envelope, MillraceError, PARKED_QUEUE, type Time } from '@millrace/core';
import { type Delivery, type EventBroker, openMemoryBrokers } from '@millrace/messaging';
import { type Database, openPglite } from '@millrace/postgres';
import fc from 'fast-check';
import { type Job, PermanentError, type PoolLike, type ProcessContext, postgres, type SinkTransaction } from 'millrace';
import { SinkInboxes } from './adapters/sink-inboxes.ts';
import { Breaker } from './breaker.ts';
import { ChunkTraces } from './chunk-traces.ts';
import type { ItemResult } from './domain/results.ts';
import type { Isolation } from './isolation.ts';
import { quietLog, sampleChunk, sampleJob, samplePlatform } from './processor-samples.ts';
import { SettleChunk } from './settle-chunk.ts';
import { Slots } from './slots.ts';
import { wireProcessor } from './wiring.ts';

let database: Database;
let brokers: ReturnType<typeof openMemoryBrokers>;
let stop: () => Promise<void>;

beforeAll(async () => {
  database = await openPglite({});
  await database.query('create table target (id text not null, n int check (n < 1000))');
}, 120_000);
afterAll(() => database.close());
beforeEach(async () => {
  await database.query('delete from target');
  await database.query(`do $$ begin if to_regclass('millrace.inbox') is not null then delete from millrace.inbox; end if; end $$`);
});
afterEach(() => stop());

/** A processor for the job, what it published, and what it parked. */
async function start(
  job: Job,
  events: (real: EventBroker) => EventBroker = (real) => real,
  store: Database = database,
  time: Partial<Time> = {},
) {
  const sample = samplePlatform(store, job);
  const platform = { ...sample, time: { ...sample.time, ...time } };
  brokers = openMemoryBrokers(platform.time);
  await brokers.work.ensure(chunkQueue(job.name));
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

async function applied(): Promise<string[]> {
  const { rows } = await database.query<{ id: string }>('select id from target order by id');
  return rows.map((row) => row.id);
}

const insert = (effects: readonly unknown[], tx: SinkTransaction) =>
  tx.query('insert into target select id, n from json_to_recordset($1::json) as x(id text, n int)', [JSON.stringify(effects)]);
const copied = (item: unknown) => item;
const timeless = ({ timing: _, ...fact }: ChunkSettled) => fact;

test('applies all items in batches and publishes what the inbox holds', async () => {
  const batches: number[] = [];
  const { send, fact } = await start(sampleJob({ process: copied, write: (e, tx) => (batches.push(e.length), insert(e, tx)), batch: 2 }));
  await send(sampleChunk(5));
  expect(await fact(1)).toMatchObject({
    runId: 'sync@manual:1',
    generation: 0,
    seq: 0,
    attempt: 1,
    size: 5,
    outcomes: '5a',
    failures: [],
    skips: {},
  });
  expect(await applied()).toEqual(['k0', 'k1', 'k2', 'k3', 'k4']);
  expect(batches).toEqual([2, 2, 1]);
  const { rows } = await database.query('select outcomes, attempt, size, job from millrace.inbox');
  expect(rows).toEqual([{ outcomes: '5a', attempt: 1, size: 5, job: 'sync' }]);
});

test('skips, rejections and failures stand beside applied items, with reasons, classes and the wait asked for', async () => {
  const process = async (item: { n: number }, { skip, reject }: ProcessContext) => {
    if (item.n === 1) return skip('unchanged');
    if (item.n === 2) return reject('closed account');
    if (item.n === 3) throw Object.assign(new Error('busy 77'), { retryAfter: 4_000 });
    if (item.n === 4) throw new PermanentError('not found');
    if (item.n === 5) throw skip('unchanged');
    if (item.n === 6) return undefined;
    if (item.n === 7) return { id: 'x', at: new Date(0) };
    return item;
  };
  const { send, fact } = await start(sampleJob({ process: process as Job['process'], write: insert }));
  await send(sampleChunk(8));
  const settled = await fact(1);
  expect(settled).toMatchObject({ outcomes: '1a1s1r1f1x1s2x', skips: { unchanged: 2 }, retryAfter: 4_000 });
  expect(settled.failures.map((f) => [f.position, f.key, f.class, f.title])).toEqual([
    [2, 'k2', 'rejected', 'closed account'],
    [3, 'k3', 'transient', 'busy <n>'],
    [4, 'k4', 'permanent', 'not found'],
    [6, 'k6', 'permanent', expect.stringContaining('MR1008')],
    [7, 'k7', 'permanent', expect.stringContaining('MR1008')],
  ]);
  expect(await applied()).toEqual(['k0']);
});

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

test('attempt 2 runs only what failed, and the fact covers the whole chunk', async () => {
  const ran: string[] = [];
  const process = (item: unknown, { attempt }: ProcessContext) => {
    const { id, n } = item as { id: string; n: number };
    ran.push(`${attempt}:${id}`);
    if (n % 2 === 1 && attempt === 1) throw new Error('busy');
    return item;
  };
  const { send, fact } = await start(sampleJob({ process, write: insert }));
  await send(sampleChunk(4));
  expect((await fact(1)).outcomes).toBe('1a1f1a1f');
  await send(sampleChunk(4, { attempt: 2 }, [1, 3]));
  expect(await fact(2)).toMatchObject({ attempt: 2, outcomes: '4a', failures: [], size: 4 });
  expect(ran).toEqual(['1:k0', '1:k1', '1:k2', '1:k3', '2:k1', '2:k3']);
  expect(await applied()).toEqual(['k0', 'k1', 'k2', 'k3']);
});

test('the last attempt makes a transient failure final', async () => {
  const process = () => {
    throw new Error('busy');
  };
  const { send, fact } = await start(sampleJob({ process, write: insert, attempts: 2 }));
  await send(sampleChunk(1));
  expect((await fact(1)).outcomes).toBe('1f');
  await send(sampleChunk(1, { attempt: 2 }));
  expect((await fact(2)).outcomes).toBe('1x');
});

test('a redrive covers only the positions it carries', async () => {
  const { send, fact } = await start(sampleJob({ process: copied, write: insert }));
  await send(sampleChunk(4, { generation: 1 }, [2]));
  expect((await fact(1)).outcomes).toBe('2-1a1-');
});

describe('effects that are rows of a table', () => {
  const rows = (process: Job['process'], options = {}) =>
    sampleJob({ process, sink: postgres.insert('target', ['id', 'n'], options), ...options });

  test('are stored with the row of their chunk at once, failures and skips beside them', async () => {
    let transactions = 0;
    const counting: Database = {
      kind: 'pg',
      close: async () => undefined,
      query: (sql, params) => database.query(sql, params),
      queryAndCopy: (...args) => database.queryAndCopy(...args),
      transaction: (work) => (transactions++, database.transaction(work)),
    };
    const process = (item: unknown, { skip, reject }: ProcessContext) => {
      const { n } = item as { n: number };
      return n === 1 ? skip('no need') : n === 3 ? reject('bad') : item;
    };
    const { send, fact } = await start(rows(process), undefined, counting);
    const before = transactions;
    await send(sampleChunk(5));
    expect(await fact(1)).toMatchObject({ outcomes: '1a1s1a1r1a', skips: { 'no need': 1 }, failures: [{ key: 'k3' }] });
    expect(transactions).toBe(before);
    expect(await applied()).toEqual(['k0', 'k2', 'k4']);
  });

  test('are not stored twice when the chunk comes twice: the second finds the row', async () => {
    const { send, fact } = await start(rows(copied));
    await send(sampleChunk(4), sampleChunk(4));
    expect(timeless(await fact(2))).toEqual(timeless(await fact(1)));
    expect(await applied()).toEqual(['k0', 'k1', 'k2', 'k3']);
  });

  test('that the table refuses fail alone; their neighbours are applied', async () => {
    const { send, fact } = await start(rows((item) => ({ ...(item as object), ...((item as { n: number }).n === 2 ? { n: 5_000 } : {}) })));
    await send(sampleChunk(4));
    expect(await fact(1)).toMatchObject({ outcomes: '2a1x1a', failures: [{ key: 'k2', class: 'commit' }] });
    expect(await applied()).toEqual(['k0', 'k1', 'k3']);
  });

  test('of chunks that are ready at once go together, and a refused one harms none of its neighbours', async () => {
    const together: number[] = [];
    const counting: Database = {
      kind: 'pg',
      close: async () => undefined,
      query: (sql, params) => database.query(sql, params),
      transaction: (work) => database.transaction(work),
      queryAndCopy: (...args) => {
        together.push(args[4].length);
        return database.queryAndCopy(...args);
      },
    };
    const bad = (item: unknown) => ({ ...(item as object), ...((item as { id: string }).id === 'c2k1' ? { n: 5_000 } : {}) });
    const { send, fact } = await start(rows(bad), undefined, counting);
    const chunk = (seq: number) => ({
      ...sampleChunk(2, { seq }),
      items: [0, 1].map((n): [string, unknown] => [`c${seq}k${n}`, { id: `c${seq}k${n}`, n }]),
    });
    await send(...[0, 1, 2, 3].map(chunk));
    const facts = await Promise.all([1, 2, 3, 4].map(fact));
    expect(Object.fromEntries(facts.map(({ seq, outcomes }) => [seq, outcomes]))).toEqual({ 0: '2a', 1: '2a', 2: '1a1x', 3: '2a' });
    expect(together).toEqual([8]);
    expect(await applied()).toEqual(['c0k0', 'c0k1', 'c1k0', 'c1k1', 'c2k0', 'c3k0', 'c3k1']);
  });

  test('a COMMIT whose answer was lost is looked for: the fact is that of the stored row', async () => {
    let lost = 0;
    const losing: Database = {
      kind: 'pg',
      close: async () => undefined,
      query: (sql, params) => database.query(sql, params),
      transaction: (work) => database.transaction(work),
      queryAndCopy: async <Row>(...args: Parameters<Database['queryAndCopy']>) => {
        await database.queryAndCopy<Row>(...args);
        lost++;
        throw Object.assign(new MillraceError('MR3001', 'the connection was lost'), { commitUnknown: true });
      },
    };
    const { send, fact } = await start(rows(copied), undefined, losing);
    await send(sampleChunk(3));
    expect(await fact(1)).toMatchObject({ outcomes: '3a', attempt: 1 });
    expect([lost, await applied()]).toEqual([1, ['k0', 'k1', 'k2']]);
  });
});

describe('when the sink refuses', () => {
  test('the poisonous rows are found and fail for good; their neighbours are applied', async () => {
    const { send, fact } = await start(
      sampleJob({
        process: (item) => ({ ...(item as object), ...([3, 6].includes((item as { n: number }).n) ? { n: 5_000 } : {}) }),
        write: insert,
        batch: 4,
      }),
    );
    await send(sampleChunk(8));
    const settled = await fact(1);
    expect(settled.outcomes).toBe('3a1x2a1x1a');
    expect(settled.failures.map((f) => [f.key, f.class])).toEqual([
      ['k3', 'commit'],
      ['k6', 'commit'],
    ]);
    expect(settled.failures[0]?.message).toMatch(/^MR1015 .*target_n_check/);
    expect(await applied()).toEqual(['k0', 'k1', 'k2', 'k4', 'k5', 'k7']);
  });

  test('a constraint that is checked at COMMIT is traced to its row as well', async () => {
    await database.query('create table late (id text, n int, unique (n) deferrable initially deferred)');
    const write = (effects: readonly unknown[], tx: SinkTransaction) =>
      tx.query('insert into late select id, n from json_to_recordset($1::json) as x(id text, n int)', [JSON.stringify(effects)]);
    const { send, fact } = await start(
      sampleJob({ process: (item) => ({ ...(item as object), n: (item as { n: number }).n % 3 }), write }),
    );
    await send(sampleChunk(4));
    expect((await fact(1)).outcomes).toBe('3a1x');
  });

  test('an error of user code fails its batch for this attempt only', async () => {
    let broken = true;
    const write = (effects: readonly unknown[], tx: SinkTransaction) => {
      if (broken && effects.some((effect) => (effect as { n: number }).n === 3)) throw new Error('bug in commit');
      return insert(effects, tx);
    };
    const { send, fact } = await start(sampleJob({ process: copied, write, batch: 2 }));
    await send(sampleChunk(6));
    expect((await fact(1)).outcomes).toBe('2a2f2a');
    broken = false;
    await send(sampleChunk(6, { attempt: 2 }, [2, 3]));
    expect((await fact(2)).outcomes).toBe('6a');
    expect(await applied()).toHaveLength(6);
  });

  test('an error of user code is no trouble with the database, even when the database wraps it', async () => {
    const wrapping: Database = {
      kind: 'pg',
      close: async () => undefined,
      query: (sql, params) => database.query(sql, params),
      queryAndCopy: (...args) => database.queryAndCopy(...args),
      transaction: (work) =>
        database.transaction(work).catch((cause) => {
          throw new MillraceError('MR3001', 'wrapped', { cause });
        }),
    };
    const process = (item: unknown) => item;
    const write = () => {
      throw new Error('bug in commit');
    };
    const { send, fact } = await start(sampleJob({ process, write }), undefined, wrapping);
    await send(sampleChunk(2));
    expect((await fact(1)).outcomes).toBe('2f');
  });

  test('a statement whose error was swallowed does not pass for applied', async () => {
    const write = async (effects: readonly unknown[], tx: SinkTransaction) => {
      await insert(effects, tx).catch(() => undefined);
    };
    const { send, fact } = await start(sampleJob({ process: (item) => ({ id: (item as { id: string }).id, n: 5_000 }), write }));
    await send(sampleChunk(2));
    expect((await fact(1)).outcomes).toBe('2x');
    expect(await applied()).toEqual([]);
  });

  test('a lost connection spends no attempt: the chunk is tried again', async () => {
    let losses = 2;
    const write = (effects: readonly unknown[], tx: SinkTransaction) => {
      if (losses-- > 0) throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
      return insert(effects, tx);
    };
    const { send, fact } = await start(sampleJob({ process: copied, write, attempts: 1 }));
    await send(sampleChunk(2));
    expect(await fact(1)).toMatchObject({ outcomes: '2a', attempt: 1 });
    expect(await applied()).toEqual(['k0', 'k1']);
  });
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

describe('a sink with a pool of its own', () => {
  /** The only session of PGlite, handed out as pg would a client. */
  const pool = (asked: string[] = []): PoolLike => ({
    connect: async () => ({
      query: (sql: string, params?: unknown[]) => (asked.push(sql.split('\n', 1)[0] as string), database.query(sql, params)),
      release: () => undefined,
    }),
  });

  test('keeps its inbox there, in the transaction of the effects, and is set up before the first chunk', async () => {
    await database.query('drop schema millrace cascade');
    const asked: string[] = [];
    const setup = `create table if not exists own (id text primary key, n int, info jsonb); -- and no more;`;
    const write = (effects: readonly unknown[], tx: SinkTransaction) =>
      tx.copy(
        'public.own',
        ['id', 'n', 'info'],
        effects.map((effect) => [(effect as { id: string }).id, undefined, { effect }]),
      );
    const { send, fact } = await start(sampleJob({ process: copied, write, pool: pool(asked), setup }));
    expect(asked.filter((sql) => sql.startsWith('create'))).toEqual([
      'create schema if not exists millrace',
      'create table if not exists millrace.inbox (',
      'create table if not exists millrace.inbox_fence (',
      expect.stringContaining('inbox_settled'),
      expect.stringContaining('own'),
    ]);
    asked.length = 0;
    await send(sampleChunk(2));
    expect((await fact(1)).outcomes).toBe('2a');
    expect(asked.map((sql) => sql.split(' ', 1)[0])).toEqual(['begin', 'insert', 'insert', 'commit']);
    expect((await database.query('select id, n, info from own order by id')).rows).toEqual([
      { id: 'k0', n: null, info: { effect: { id: 'k0', n: 0 } } },
      { id: 'k1', n: null, info: { effect: { id: 'k1', n: 1 } } },
    ]);
  });

  test('tries a serialization failure again without spending an attempt', async () => {
    let conflicts = 2;
    const write = (effects: readonly unknown[], tx: SinkTransaction) => {
      if (conflicts-- > 0) throw Object.assign(new Error('could not serialize access'), { code: '40001' });
      return insert(effects, tx);
    };
    const { send, fact } = await start(sampleJob({ process: copied, write, pool: pool(), attempts: 1 }));
    await send(sampleChunk(2));
    expect(await fact(1)).toMatchObject({ outcomes: '2a', attempt: 1 });
    expect(await applied()).toEqual(['k0', 'k1']);
  });

  test('looks into the inbox when the answer to COMMIT is lost', async () => {
    let losses = 1;
    const real = pool();
    const losing: PoolLike = {
      connect: async () => {
        const client = await real.connect();
        return {
          ...client,
          query: async (sql: string, params?: unknown[]) => {
            const result = await client.query(sql, params);
            if (sql === 'commit' && (await applied()).length > 0 && losses-- > 0) throw new Error('Connection terminated unexpectedly');
            return result;
          },
        };
      },
    };
    let writes = 0;
    const { send, fact } = await start(sampleJob({ process: copied, write: (e, tx) => (writes++, insert(e, tx)), pool: losing }));
    await send(sampleChunk(2));
    expect((await fact(1)).outcomes).toBe('2a');
    expect(await applied()).toEqual(['k0', 'k1']);
    expect(losses).toBeLessThan(1);
    expect(writes).toBe(1);
  });
});

describe('function sinks', () => {
  test('are given stable effect ids, and are not called again for a settled chunk', async () => {
    const calls: (readonly string[])[] = [];
    const { send, fact } = await start(sampleJob({ process: copied, send: (_, { effectIds }) => void calls.push(effectIds), batch: 2 }));
    await send(sampleChunk(3));
    expect((await fact(1)).outcomes).toBe('3a');
    expect(calls.map((ids) => ids.length)).toEqual([2, 1]);
    await send(sampleChunk(3, { attempt: 2 }));
    expect((await fact(2)).outcomes).toBe('3a');
    expect(calls).toHaveLength(2);
  });

  test('fail a batch for this attempt when they throw, and are halved when the error is permanent', async () => {
    const sink = (effects: readonly unknown[]) => {
      const numbers = effects.map((effect) => (effect as { n: number }).n);
      if (numbers.includes(1)) throw new PermanentError('refused');
      if (numbers.includes(5)) throw new Error('down');
    };
    const { send, fact } = await start(sampleJob({ process: copied, send: sink, batch: 4 }));
    await send(sampleChunk(8));
    expect((await fact(1)).outcomes).toBe('1a1x2a4f');
  });
});

test('a function sink that is out of reach holds its chunks: nothing is run again, no attempt is spent', async () => {
  let refusals = 3;
  let runs = 0;
  const calls: number[][] = [];
  const sink = (effects: readonly unknown[]) => {
    const numbers = effects.map((effect) => (effect as { n: number }).n);
    if (numbers.includes(2) && refusals-- > 0) throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    calls.push(numbers);
  };
  const { send, fact } = await start(sampleJob({ process: (item) => (runs++, item), send: sink, batch: 2, attempts: 1 }));
  await send(sampleChunk(4));
  expect(await fact(1)).toMatchObject({ outcomes: '4a', attempt: 1 });
  expect(calls).toEqual([
    [0, 1],
    [2, 3],
  ]);
  expect(runs).toBe(4);
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

describe('messages that cannot be worked', () => {
  test('are parked with their reason: another version, another job, contradicting positions', async () => {
    const { parked } = await start(sampleJob({ process: copied, write: insert }));
    const queue = chunkQueue('sync');
    const good = Chunk.envelope(sampleChunk(1), 0);
    await brokers.work.publish([
      { ...good, headers: { ...good.headers, 'millrace-version': '99' } },
      { ...Chunk.envelope(sampleChunk(1, { job: 'other' }), 0), subject: queue },
      Chunk.envelope({ ...sampleChunk(1), size: 7 }, 0),
      { ...good, body: new TextEncoder().encode('{') },
    ]);
    const reasons = (await parked(4)).map((message) =>
      Object.values(message.headers)
        .find((value) => /^MR\d{4}/.test(value))
        ?.slice(0, 6),
    );
    expect(reasons.sort()).toEqual(['MR2004', 'MR4001', 'MR4001', 'MR4002']);
  });
});

describe('a database that is out of order', () => {
  test('holds the chunks with their results: logic runs once, deliveries are not given back, /readyz says why', async () => {
    let down = true;
    let runs = 0;
    let asked = 0;
    const failing: Database = {
      kind: 'pg',
      close: async () => undefined,
      query: (sql, params) => database.query(sql, params),
      queryAndCopy: () => Promise.reject(new Error('not asked for')),
      transaction: (work) => {
        if (!sending) return database.transaction(work);
        asked++;
        return down ? Promise.reject(new MillraceError('MR3001', 'refused')) : database.transaction(work);
      },
    };
    let sending = false;
    const { send, fact, service } = await start(
      sampleJob({ process: (item) => (runs++, item), write: insert, attempts: 1 }),
      undefined,
      failing,
    );
    sending = true;
    await send(sampleChunk(3), sampleChunk(2, { seq: 1 }));
    while (asked < 3) await new Promise<void>((resolve) => setImmediate(resolve));
    expect(service.ready()).toEqual([expect.stringContaining('MR3001')]);
    down = false;
    expect([(await fact(1)).outcomes, (await fact(2)).outcomes].sort()).toEqual(['2a', '3a']);
    expect(runs).toBe(5);
    expect(service.ready()).toEqual([]);
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
    stop = async () => undefined;
    const isolation = isolated(there);
    expect(await settle(sampleChunk(2, over), deliveries, isolation)).toMatchObject({ outcomes: '1a1s', skips: { there: 1 } });
    expect(isolation.calls).toBe(1);
    // And whatever is known already does not run at all.
    expect(await settle(sampleChunk(2, over), 5, isolation)).toMatchObject({ outcomes: '1a1s' });
    expect(isolation.calls).toBe(1);
  });

  test('a first delivery runs here', async () => {
    stop = async () => undefined;
    const isolation = isolated(there);
    expect(await settle(sampleChunk(2), 1, isolation)).toMatchObject({ outcomes: '2a' });
    expect(isolation.calls).toBe(0);
  });

  test('items without a result stay pending, and the next delivery of the same attempt takes them', async () => {
    stop = async () => undefined;
    expect(await settle(sampleChunk(3), 2, isolated([{ state: 'a', effect: {} }] as ItemResult[]))).toMatchObject({
      outcomes: '1a2p',
      attempt: 1,
    });
    expect(await settle(sampleChunk(3, {}, [1, 2]), 1, isolated(there))).toMatchObject({ outcomes: '3a', attempt: 1 });
  });

  test('when no item had time nothing is told', async () => {
    stop = async () => undefined;
    const idle: Isolation = { run: async () => ({ results: new Map(), death: undefined, underWay: [] }), close: async () => undefined };
    expect(await settle(sampleChunk(3), 2, idle)).toBeUndefined();
  });
});

test('a stop within its grace settles what items have brought and hands the rest back as pending', async () => {
  let begun = () => {};
  const running = new Promise<void>((resolve) => (begun = resolve));
  const process = (item: unknown, { signal }: ProcessContext) =>
    (item as { n: number }).n === 0
      ? Promise.resolve(item)
      : new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
          begun();
        });
  // 8 of 30 seconds are kept for what comes after the items; the other 22 pass at once.
  const sleep: Time['sleep'] = (duration, signal) =>
    duration === 22_000 ? Promise.resolve() : samplePlatform(database, job).time.sleep(duration, signal);
  const job = sampleJob({ process, write: insert, attempts: 1 });
  const { service, send, fact } = await start(job, undefined, database, { sleep });
  await send(sampleChunk(3));
  await running;
  await service.stop(30_000);
  expect(await fact(1)).toMatchObject({ outcomes: '1a2p', attempt: 1, failures: [] });
  expect(await applied()).toEqual(['k0']);
});

test('a fact that the broker does not take holds up no other', async () => {
  let refused = 0;
  const events = (real: EventBroker): EventBroker => ({
    ...real,
    connected: () => real.connected(),
    close: () => real.close(),
    subscribe: (...args) => real.subscribe(...args),
    bucket: (name) => real.bucket(name),
    publish: async (facts, options) => {
      if (facts.some(({ id }) => id.startsWith('sync@manual:1/0/1/')) && refused++ < 3) throw new MillraceError('MR3013', 'too big');
      await real.publish(facts, options);
    },
  });
  const { send, fact } = await start(sampleJob({ process: copied, write: () => undefined }), events);
  await send(...[0, 1, 2, 3].map((seq) => sampleChunk(1, { seq })));
  const told = await Promise.all([1, 2, 3, 4].map(fact));
  // It was refused with the others, alone, and alone once more when its chunk came again.
  expect(refused).toBeGreaterThan(3);
  expect(told.at(-1)?.seq).toBe(1);
  expect(told.map(({ seq }) => seq).sort()).toEqual([0, 1, 2, 3]);
});

test('a processor holds four chunks of a job until one of them was quick', async () => {
  const ends: (() => void)[] = [];
  const process = (item: unknown) => new Promise((resolve) => ends.push(() => resolve(item)));
  const { send, fact } = await start(sampleJob({ process, write: insert }));
  const waiting = async () => (await brokers.work.inspect(chunkQueue('sync')))?.ready;
  const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 20));
  await send(...Array.from({ length: 30 }, (_, seq) => sampleChunk(1, { seq })));
  await turn();
  expect(await waiting()).toBe(26);
  ends[0]?.();
  await fact(1);
  await turn();
  expect(await waiting()).toBe(30 - 1 - 16);
  for (let i = 1; i < 30; i++) {
    while (ends.length <= i) await turn();
    ends[i]?.();
  }
  await fact(30);
});

test('stop waits for what runs; stop before start and twice are fine', async () => {
  let release: (value: unknown) => void = () => {};
  let begun = () => {};
  const running = new Promise<void>((resolve) => (begun = resolve));
  const { service, send, fact } = await start(
    sampleJob({ process: () => new Promise((resolve) => ((release = resolve), begun())), write: insert }),
  );
  expect(service.ready()).toEqual([]);
  await send(sampleChunk(1));
  await running;
  const stopped = service.stop();
  expect(service.ready()).toEqual(['stopping']);
  release({ id: 'late', n: 1 });
  await stopped;
  await service.stop();
  expect((await fact(1)).outcomes).toBe('1a');
  const never = wireProcessor(samplePlatform(database, sampleJob({ process: copied, write: insert })));
  await never.stop();
  await never.start();
  expect(never.ready()).toContain('stopping');
});

test('whichever rows the table refuses, exactly those fail and all others are applied once', async () => {
  const process = (item: unknown) => ({ ...(item as object), n: bad.has((item as { n: number }).n) ? 5_000 : 1 });
  let bad = new Set<number>();
  let seq = 0;
  const { send, fact } = await start(sampleJob({ process, write: insert, batch: 7 }));
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 24 }), fc.array(fc.nat({ max: 23 }), { maxLength: 8 }), async (size, refused) => {
      bad = new Set(refused.filter((n) => n < size));
      await database.query('delete from target');
      await send(sampleChunk(size, { seq: seq++ }));
      const settled = await fact(seq);
      expect(settled.failures.map(({ position }) => position)).toEqual([...bad].sort((a, b) => a - b));
      const good = Array.from({ length: size }, (_, n) => n).filter((n) => !bad.has(n));
      expect(await applied()).toEqual(good.map((n) => `k${n}`).sort());
    }),
    { numRuns: 25 },
  );
}, 120_000);
