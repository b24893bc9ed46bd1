import { expect, test } from '@jest/globals';
import type { Time } from '@millrace/core';
import type { Platform } from '@millrace/runtime';
import { Loops } from './loops.ts';

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Loops whose time passes only when told, and the rounds that each of `hands` has begun. */
function start(hands: number, work: (hand: number) => Promise<void> = async () => {}) {
  const pauses: number[] = [];
  const sleepers: (() => void)[] = [];
  const time: Time = {
    now: () => 0,
    sleep: (duration, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        pauses.push(duration);
        sleepers.push(resolve);
        signal?.addEventListener('abort', () => resolve(), { once: true });
      }),
  };
  const log = { info: () => {}, warn: () => {} } as unknown as Platform['log'];
  const loops = new Loops({ time, random: () => 0.5, log });
  const rounds = Array.from({ length: hands }, () => 0);
  const over = new AbortController();
  const ended = Promise.all(
    rounds.map((_, hand) =>
      loops.run('work', 1_000, over.signal, async () => {
        rounds[hand] = (rounds[hand] ?? 0) + 1;
        await work(hand);
      }),
    ),
  );
  const stop = async () => {
    over.abort();
    await ended;
  };
  return { loops, rounds, pauses, stop, pass: () => sleepers.splice(0).map((wake) => wake()) };
}

test('each works at once and when its pause is over; a wake reaches one that rests, or all when asked to', async () => {
  const { loops, rounds, pauses, pass, stop } = start(3);
  await turn();
  expect([rounds, pauses]).toEqual([
    [1, 1, 1],
    [1_000, 1_000, 1_000],
  ]);
  loops.wakeOne();
  await turn();
  expect(rounds.reduce((a, b) => a + b)).toBe(4);
  loops.wakeAll();
  await turn();
  expect(rounds.reduce((a, b) => a + b)).toBe(7);
  pass();
  await turn();
  expect(rounds.reduce((a, b) => a + b)).toBe(10);
  await stop();
});

test('who is at work when everybody is goes on for another round: nothing that changed meanwhile is missed', async () => {
  const ends: (() => void)[] = [];
  const { loops, rounds, stop } = start(2, () => new Promise((resolve) => ends.push(resolve)));
  await turn();
  loops.wakeOne();
  for (const end of ends.splice(0)) end();
  await turn();
  expect(rounds).toEqual([2, 2]);
  for (const end of ends.splice(0)) end();
  await stop();
});

test('one that is kept is not woken by others, and is when it is told to', async () => {
  const { loops, rounds, stop } = start(2);
  await turn();
  const wake = loops.reserve();
  loops.wakeOne();
  await turn();
  expect(rounds).toEqual([1, 2]);
  wake?.();
  await turn();
  expect(rounds).toEqual([2, 2]);
  const both = [loops.reserve(), loops.reserve()];
  expect([both.every(Boolean), loops.reserve()]).toEqual([true, undefined]);
  await stop();
});

test('one in trouble rests for its time, whatever changes', async () => {
  const { loops, rounds, pauses, pass, stop } = start(1, () => Promise.reject(new Error('away')));
  await turn();
  loops.wakeAll();
  loops.wakeOne();
  await turn();
  expect(rounds).toEqual([1]);
  for (let i = 0; i < 5; i++) {
    pass();
    await turn();
  }
  expect(rounds).toEqual([6]);
  expect(pauses[0]).toBe(1_000);
  expect(pauses.at(-1)).toBeGreaterThan(3_000);
  await stop();
});

test('hands of one work look in turns; while one of them is busy, another looks', async () => {
  const sleepers = new Map<() => void, number>();
  let now = 0;
  const time: Time = {
    now: () => now,
    sleep: (duration, signal) =>
      new Promise((resolve) => {
        if (signal?.aborted) return resolve();
        const wake = () => {
          sleepers.delete(wake);
          signal?.removeEventListener('abort', wake);
          resolve();
        };
        sleepers.set(wake, now + duration);
        signal?.addEventListener('abort', wake);
      }),
  };
  const pass = async (until: number) => {
    for (;;) {
      await turn();
      const [first] = [...sleepers].sort(([, a], [, b]) => a - b);
      if (!first || first[1] > until) break;
      now = first[1];
      first[0]();
    }
    now = until;
  };
  const log = { info: () => {}, warn: () => {} } as unknown as Platform['log'];
  const begun: number[] = [];
  const loops = new Loops({ time, random: () => (begun.length % 3) / 3, log });
  let busy: Promise<void> | undefined;
  let over = () => {};
  const stopping = new AbortController();
  const work = async () => {
    begun.push(now);
    await busy;
  };
  const ended = loops.run('work', 1_000, stopping.signal, work, 3);
  await pass(20_000);
  expect(begun.slice(0, 3)).toEqual([0, 0, 0]);
  // Each for itself would have looked 60 times.
  const gaps = begun.slice(3).map((at, index) => at - (begun[index + 2] as number));
  expect(gaps.length).toBeGreaterThanOrEqual(15);
  expect(gaps.length).toBeLessThanOrEqual(27);
  expect(Math.max(...gaps)).toBeLessThanOrEqual(1_250);
  busy = new Promise((resolve) => (over = resolve));
  await pass(25_000);
  expect(begun.filter((at) => at > 20_000).length).toBe(3);
  over();
  stopping.abort();
  await ended;
});
