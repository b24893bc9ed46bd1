import { describe, expect, test } from '@jest/globals';
import { Chunk, chunkQueue, MillraceError, type Time } from '@millrace/core';
import type { EventBroker } from '@millrace/messaging';
import { type Job, PermanentError, type ProcessContext } from 'millrace';
import { applied, brokers, copied, database, insert, start, useProcessor } from './processor-fixture.ts';
import { sampleChunk, sampleJob, samplePlatform } from './processor-samples.ts';
import { wireProcessor } from './wiring.ts';

useProcessor();

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
  await send(...Array.from({ length: 40 }, (_, seq) => sampleChunk(1, { seq })));
  await turn();
  expect(await waiting()).toBe(36);
  ends[0]?.();
  await fact(1);
  await turn();
  expect(await waiting()).toBe(40 - 1 - 20);
  for (let i = 1; i < 40; i++) {
    while (ends.length <= i) await turn();
    ends[i]?.();
  }
  await fact(40);
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
