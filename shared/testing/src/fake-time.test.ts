import { expect, test } from '@jest/globals';
import { FakeTime } from './fake-time.ts';

test('sleepers wake at their own instants, in order, also those who go to sleep again on the way', async () => {
  const time = new FakeTime(0);
  const seen: string[] = [];
  const beat = async (name: string, every: number, times: number) => {
    for (let i = 0; i < times; i += 1) {
      await time.sleep(every);
      seen.push(`${name}${time.now()}`);
    }
  };
  const beats = [beat('a', 30, 3), beat('b', 50, 1)];
  await time.advance(80);
  expect(seen).toEqual(['a30', 'b50', 'a60']);
  expect(time.now()).toBe(80);
  await time.advance(10);
  expect(seen.at(-1)).toBe('a90');
  await Promise.all(beats);
});

test('a sleeper wakes at once when its signal aborts, and not again later', async () => {
  const time = new FakeTime('2026-11-24T00:10:00Z');
  const abort = new AbortController();
  const sleep = time.sleep(1_000, abort.signal);
  expect(time.sleepers).toBe(1);
  abort.abort();
  await sleep;
  expect(time.sleepers).toBe(0);
  await time.sleep(1_000, abort.signal);
  expect(time.now()).toBe(Date.parse('2026-11-24T00:10:00Z'));
});

test('a jump of the clock wakes nobody', async () => {
  const time = new FakeTime(0);
  void time.sleep(10);
  time.set(1_000);
  expect([time.now(), time.sleepers]).toEqual([1_000, 1]);
});
