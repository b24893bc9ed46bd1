import { expect, test } from '@jest/globals';
import { MillraceError, type Time } from '@millrace/core';
import { Breaker } from './breaker.ts';
import { quietLog } from './processor-samples.ts';

/** Sleeping moves the clock: nothing waits, and every pause is seen. */
function rig() {
  const pauses: number[] = [];
  let now = 0;
  const time: Time = {
    now: () => now,
    sleep: async (duration, signal) => {
      if (signal?.aborted) return;
      if (duration === Number.POSITIVE_INFINITY) return new Promise((resolve) => signal?.addEventListener('abort', () => resolve()));
      await Promise.resolve();
      pauses.push(duration);
      now += duration;
    },
  };
  return { breaker: new Breaker('the database', time, () => 1, quietLog), pauses, time };
}

const forever = { until: Number.POSITIVE_INFINITY, signal: new AbortController().signal };

test('work is tried until it succeeds, after pauses that grow to 30 s', async () => {
  const { breaker, pauses } = rig();
  let failures = 12;
  const work = async () => {
    if (failures-- > 0) throw new Error('down');
    return 'done';
  };
  expect(await breaker.run(work, forever)).toBe('done');
  expect(pauses).toEqual([250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, ...Array.from({ length: 5 }, () => 30_000)]);
  expect(breaker.trouble).toBeUndefined();
});

test('while it is open one caller tries, the others wait; they count as one failure', async () => {
  const { breaker } = rig();
  let down = true;
  let trying = 0;
  let most = 0;
  let calls = 0;
  const work = async () => {
    calls++;
    most = Math.max(most, ++trying);
    await new Promise<void>((resolve) => setImmediate(resolve));
    trying--;
    if (down) throw new Error('down');
  };
  const first = [1, 2, 3, 4].map(() => breaker.run(work, forever));
  await new Promise<void>((resolve) => setImmediate(resolve));
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect(calls).toBeGreaterThanOrEqual(4);
  expect(breaker.trouble).toBe('cannot use the database: down');
  most = 0;
  for (let turn = 0; turn < 20; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  expect(most).toBe(1);
  down = false;
  await Promise.all(first);
  expect(breaker.closed).toBe(true);
});

test('patience ends with its time or its signal: the latest error comes out', async () => {
  const { breaker, time } = rig();
  const work = () => Promise.reject(new Error('down'));
  await expect(breaker.run(work, { ...forever, until: time.now() + 5_000 })).rejects.toThrow('down');
  expect(time.now()).toBeLessThanOrEqual(8_000);
  const over = AbortSignal.abort();
  await expect(breaker.run(work, { ...forever, signal: over })).rejects.toThrow('down');
});

test('data that is wrong comes out at once and is no trouble', async () => {
  const { breaker } = rig();
  await expect(breaker.run(() => Promise.reject(new MillraceError('MR4003', 'x')), forever)).rejects.toThrow('MR4003');
  expect(breaker.closed).toBe(true);
});

test('a wish to be left alone is kept, up to 10 minutes', async () => {
  const { breaker, pauses } = rig();
  breaker.pause(4_000);
  await breaker.rest(forever);
  expect(pauses).toEqual([4_000]);
  breaker.pause(86_400_000);
  await breaker.run(async () => undefined, forever);
  expect(pauses).toEqual([4_000, 600_000]);
});
