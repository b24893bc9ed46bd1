import { describe, expect, test } from '@jest/globals';
import { MillraceError } from '@millrace/core';
import type { Database } from '@millrace/postgres';
import fc from 'fast-check';
import { type Job, PermanentError, type PoolLike, type ProcessContext, postgres, type SinkTransaction } from 'millrace';
import { applied, copied, database, insert, start, timeless, useProcessor } from './processor-fixture.ts';
import { sampleChunk, sampleJob } from './processor-samples.ts';

useProcessor();

/** The database of the tests, with this way to copy. */
function copyingBy(queryAndCopy: Database['queryAndCopy']): Database {
  return {
    kind: 'pg',
    close: async () => undefined,
    query: (sql, params) => database.query(sql, params),
    transaction: (work) => database.transaction(work),
    queryAndCopy,
  };
}

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
    const counting = copyingBy((...args) => {
      together.push(args[4].length);
      return database.queryAndCopy(...args);
    });
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

  test('of eight more chunks are written while those of others are being committed', async () => {
    let commit = () => {};
    const committed = new Promise<void>((resolve) => (commit = resolve));
    const groups: number[] = [];
    const slow = copyingBy(async <Row>(...args: Parameters<Database['queryAndCopy']>) => {
      groups.push(args[4].length);
      // The first is one quick chunk, which lets the processor take as many as it may.
      if (groups.length === 2) await committed;
      return database.queryAndCopy<Row>(...args);
    });
    const { send, fact } = await start(rows(copied), undefined, slow);
    const chunk = (seq: number) => ({ ...sampleChunk(1, { seq }), items: [[`c${seq}`, { id: `c${seq}`, n: 1 }] as [string, unknown]] });
    await send(chunk(0));
    await fact(1);
    await send(...Array.from({ length: 20 }, (_, i) => chunk(i + 1)));
    expect((await fact(9)).seq).toBeGreaterThan(8);
    expect(groups.slice(0, 3)).toEqual([1, 8, 8]);
    commit();
    await fact(21);
    expect(groups.slice(3)).toEqual([4]);
  });

  test('a COMMIT whose answer was lost is looked for: the fact is that of the stored row', async () => {
    let lost = 0;
    const losing = copyingBy(async <Row>(...args: Parameters<Database['queryAndCopy']>) => {
      await database.queryAndCopy<Row>(...args);
      lost++;
      throw Object.assign(new MillraceError('MR3001', 'the connection was lost'), { commitUnknown: true });
    });
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
