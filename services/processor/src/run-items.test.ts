import { expect, test } from '@jest/globals';
import type { Time } from '@millrace/core';
import type { Job, ProcessContext } from 'millrace';
import { sampleChunk, sampleJob } from './processor-samples.ts';
import { type RunItems, runItems } from './run-items.ts';
import { Slots } from './slots.ts';
import { unwatched } from './watchdog.ts';

/** A clock that is moved by hand; sleepers wake when their time has come. */
function handClock() {
  let now = 0;
  const sleepers = new Set<{ at: number; wake: () => void }>();
  const time: Time = {
    now: () => now,
    sleep: (duration, signal) =>
      new Promise((resolve) => {
        const sleeper = { at: now + duration, wake: resolve };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', () => resolve(), { once: true });
      }),
  };
  const advance = (by: number) => {
    now += by;
    for (const sleeper of sleepers) if (sleeper.at <= now && sleepers.delete(sleeper)) sleeper.wake();
  };
  return { time, advance };
}

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as unknown as ProcessContext['log'];
const all = (n: number) => Array.from({ length: n }, (_, i) => i);

function run(process: Job['process'], n: number, slots: Slots, time: Time = handClock().time, over: Partial<RunItems> = {}) {
  const job = sampleJob({ process, send: () => undefined });
  const { signal } = new AbortController();
  return runItems({
    job,
    chunk: sampleChunk(n),
    todo: all(n),
    slots,
    time,
    log,
    until: Number.POSITIVE_INFINITY,
    signal,
    watch: unwatched,
    ...over,
  });
}

test('no more items are under way than the job allows, over all its chunks together', async () => {
  let active = 0;
  let most = 0;
  const process = async (item: unknown) => {
    most = Math.max(most, ++active);
    await new Promise<void>((resolve) => setImmediate(resolve));
    active--;
    return item;
  };
  const slots = new Slots(3);
  const [a, b] = await Promise.all([run(process, 10, slots), run(process, 10, slots)]);
  expect([...a.states, ...b.states]).toEqual(all(20).map(() => 'a'));
  expect(most).toBe(3);
});

test('an item that hangs times out on its own, its signal aborts, and its late result is ignored', async () => {
  const { time, advance } = handClock();
  let aborted: unknown;
  let late: (value: unknown) => void = () => {};
  const process = (item: unknown, { signal }: ProcessContext) => {
    if ((item as { n: number }).n !== 1) return Promise.resolve(item);
    signal.addEventListener('abort', () => (aborted = signal.reason));
    return new Promise((resolve) => (late = resolve));
  };
  const results = run(process, 3, new Slots(2), time);
  await new Promise<void>((resolve) => setImmediate(resolve));
  advance(60_000);
  const { states, blames } = await results;
  late({ id: 'late' });
  await Promise.resolve();
  expect(states).toEqual(['a', 'f', 'a']);
  expect(blames.get(1)).toMatchObject({ class: 'timeout', message: expect.stringContaining('MR1014') });
  expect(aborted).toMatchObject({ code: 'MR1014' });
});

test('a process that stood still gives its items their time again', async () => {
  const { time, advance } = handClock();
  const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
  const results = run(() => new Promise(() => undefined), 1, new Slots(1), time);
  await turn();
  advance(100_000);
  await turn();
  advance(59_999);
  expect(await Promise.race([results, turn()])).toBeUndefined();
  advance(1);
  expect((await results).blames.get(0)).toMatchObject({ class: 'timeout' });
});

test('the context gives a stable item id, and its functions can be taken apart', async () => {
  const ids: string[] = [];
  const process = (item: unknown, { itemId, skip, attempt, params, tick }: ProcessContext) => {
    ids.push(itemId);
    return attempt === 1 && params !== undefined && tick ? skip('seen') : item;
  };
  const slots = new Slots(1);
  const first = await run(process, 1, slots);
  await run(process, 1, slots);
  expect(first.states).toEqual(['s']);
  expect(ids[0]).toMatch(/^[0-9a-f]{32}$/);
  expect(ids[0]).toBe(ids[1]);
});

test('synchronous items make no promises and keep their order', async () => {
  const seen: number[] = [];
  const results = await run((item) => (seen.push((item as { n: number }).n), item), 5, new Slots(1));
  expect(seen).toEqual([0, 1, 2, 3, 4]);
  expect(results.effects).toHaveLength(5);
});

test('from its deadline on nothing is started; what is under way ends, the rest has no result', async () => {
  const { time, advance } = handClock();
  const landing: (() => void)[] = [];
  const process = (item: unknown) => new Promise((resolve) => landing.push(() => resolve(item)));
  const results = run(process, 4, new Slots(2), time, { until: 1_000 });
  advance(1_000);
  for (const land of landing) land();
  expect([...(await results).states]).toEqual(['a', 'a', undefined, undefined]);
});

test('when there is no time left, items are told; those that give up or hang have no result, those that finish have one', async () => {
  const { time, advance } = handClock();
  const over = new AbortController();
  const process = (item: unknown, { signal }: ProcessContext) =>
    new Promise((resolve, reject) => {
      const { n } = item as { n: number };
      if (n === 0) signal.addEventListener('abort', () => resolve(item));
      if (n === 1) signal.addEventListener('abort', () => reject(signal.reason));
      signal.addEventListener('abort', () => undefined);
    });
  const slots = new Slots(3);
  const running = run(process, 4, slots, time, { signal: over.signal });
  over.abort(new Error('stopping'));
  await new Promise<void>((resolve) => setImmediate(resolve));
  advance(1_000);
  const results = await running;
  expect([...results.states]).toEqual(['a', undefined, undefined, undefined]);
  expect(results.blames.size).toBe(0);
  expect([1, 2, 3].map(() => slots.take(() => undefined))).toEqual([true, true, true]);
});

test('synchronous items let the event loop breathe, and the slowest of them is measured', async () => {
  let now = 0;
  let breaths = 0;
  const time: Time = { now: () => now, sleep: async () => void breaths++ };
  const process = (item: unknown) => {
    now += (item as { n: number }).n === 7 ? 6_000 : 20;
    return item;
  };
  const results = await run(process, 10, new Slots(1), time);
  expect(results.states).toEqual(all(10).map(() => 'a'));
  expect(results.slowest).toBe(6_000);
  expect(breaths).toBe(3);
});
