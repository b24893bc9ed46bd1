import { expect, test } from '@jest/globals';
import { done, type Verdict } from '@millrace/core';
import { waitFor } from '@millrace/testing';
import { type Arrival, Intake } from './intake.ts';
import { silent } from './log.ts';
import type { Delivery, Handler, SubscribeOptions } from './ports.ts';

function arrivals(count: number, settled: Map<string, Verdict>, deliveries = 1): Arrival[] {
  return Array.from({ length: count }, (_, index) => {
    const delivery: Delivery = {
      id: `m${index}`,
      subject: 's',
      headers: {},
      body: new Uint8Array(),
      deliveries,
    };
    return {
      delivery,
      settle: (verdict: Verdict) => void settled.set(delivery.id, verdict),
    };
  });
}
const turn = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
const allDone: Handler = async (deliveries) => deliveries.map(() => done);

/** An intake that says how large its groups were. */
function recorded(options: { batch: number; prefetch: number } & Pick<SubscribeOptions, 'linger' | 'enough'>) {
  const sizes: number[] = [];
  const handler: Handler = (deliveries) => {
    sizes.push(deliveries.length);
    return allDone(deliveries);
  };
  return { sizes, intake: new Intake(handler, { ...options, log: silent }) };
}

test('what arrives in one turn of the event loop travels in groups of the batch size', async () => {
  const { intake, sizes } = recorded({ batch: 4, prefetch: 100 });
  for (const arrival of arrivals(10, new Map())) intake.offer(arrival);
  await turn();
  expect(sizes).toEqual([4, 4, 2]);
});

test('what lingers goes at once when it is enough', async () => {
  const asked: string[][] = [];
  const enough = (waiting: readonly Delivery[]) => {
    asked.push(waiting.map(({ id }) => id));
    return waiting.length >= 2;
  };
  const { intake, sizes } = recorded({ batch: 4, prefetch: 8, linger: 60_000, enough });
  for (const arrival of arrivals(3, new Map())) {
    intake.offer(arrival);
    await turn();
    await turn();
  }
  expect(sizes).toEqual([1, 2]);
  expect(asked).toEqual([['m1'], ['m1', 'm2']]);
  intake.close();
});

test('where groups are to gather, one that is not full waits for the end of a call that is under way', async () => {
  const sizes: number[] = [];
  let end = () => {};
  const intake = new Intake(
    async (deliveries) => {
      sizes.push(deliveries.length);
      await new Promise<void>((resolve) => (end = resolve));
      return allDone(deliveries);
    },
    { batch: 4, prefetch: 8, linger: 1, log: silent },
  );
  const all = arrivals(7, new Map());
  const offer = (count: number) => all.splice(0, count).map((arrival) => intake.offer(arrival));
  offer(1);
  await turn();
  offer(2);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(sizes).toEqual([1]);
  end();
  await waitFor(() => sizes.length === 2, { timeout: 5_000, interval: 1 });
  offer(4);
  await turn();
  expect(sizes).toEqual([1, 2, 4]);
  intake.close();
});

test('after a call, what follows lingers until it is due or a batch is full', async () => {
  const { intake, sizes } = recorded({ batch: 4, prefetch: 100, linger: 200 });
  const all = arrivals(8, new Map());
  const offer = async (count: number) => {
    for (const arrival of all.splice(0, count)) intake.offer(arrival);
    await turn();
  };
  await offer(1);
  expect(sizes).toEqual([1]);
  await offer(2);
  expect(sizes).toEqual([1]);
  await offer(2);
  expect(sizes).toEqual([1, 4]);
  await offer(3);
  await waitFor(() => sizes.length === 3, { timeout: 5_000, interval: 5 });
  expect(sizes).toEqual([1, 4, 3]);
});

test('a lone arrival does not wait for company', async () => {
  const settled = new Map<string, Verdict>();
  const intake = new Intake(allDone, {
    batch: 500,
    prefetch: 1_000,
    log: silent,
  });
  for (const arrival of arrivals(1, settled)) intake.offer(arrival);
  await turn();
  expect(settled.get('m0')).toEqual(done);
});

test('a handler that throws gives everything back, after a pause that grows with the deliveries', async () => {
  const pauses: number[] = [];
  for (const deliveries of [1, 2, 20]) {
    const settled = new Map<string, Verdict>();
    const intake = new Intake(() => Promise.reject(new Error('broken')), {
      batch: 1,
      prefetch: 1,
      log: silent,
    });
    for (const arrival of arrivals(1, settled, deliveries)) intake.offer(arrival);
    await turn();
    const verdict = settled.get('m0');
    expect(verdict).toMatchObject({ kind: 'retry', reason: 'broken' });
    if (verdict?.kind === 'retry') pauses.push(verdict.after);
  }
  expect(pauses).toEqual([250, 500, 30_000]);
});

test('a delivery without a verdict is not taken for done', async () => {
  const settled = new Map<string, Verdict>();
  const intake = new Intake(async () => [done], {
    batch: 2,
    prefetch: 2,
    log: silent,
  });
  for (const arrival of arrivals(2, settled)) intake.offer(arrival);
  await turn();
  expect(settled.get('m0')).toEqual(done);
  expect(settled.get('m1')).toMatchObject({ kind: 'retry' });
});

test('once closed nothing is taken, and what was not started comes back at once, while others run', async () => {
  const settled = new Map<string, Verdict>();
  let finish = () => {};
  const running = new Promise<void>((resolve) => (finish = resolve));
  const intake = new Intake(async () => (await running, [done]), { batch: 1, prefetch: 1, log: silent });
  const [first, second, third] = arrivals(3, settled) as [Arrival, Arrival, Arrival];
  intake.offer(first);
  intake.offer(second);
  await turn();
  expect(intake.close()).toEqual([second]);
  expect(intake.offer(third)).toBe(false);
  expect(settled.size).toBe(0);
  finish();
  await intake.idle();
  expect([...settled.keys()]).toEqual(['m0']);
});
