import { expect, test } from '@jest/globals';
import { done } from '@millrace/core';
import { messagingContract } from './contract.ts';
import { openMemoryBrokers } from './memory.ts';

messagingContract('the memory work broker', { queues: true, streams: false, counts: true, restart: false }, async () => {
  const { work } = openMemoryBrokers();
  return { broker: work, close: () => work.close() };
});

messagingContract('the memory event broker', { queues: false, streams: true, counts: true, restart: false }, async () => {
  const { events } = openMemoryBrokers();
  return { broker: events, close: () => events.close() };
});

test('a stream in memory stays bounded, and a late reader still sees its latest 10,000 messages', async () => {
  const { events } = openMemoryBrokers();
  const body = new Uint8Array(1);
  await events.publish(
    Array.from({ length: 45_000 }, (_, index) => ({
      id: String(index),
      subject: 'millrace.facts.run.closed.a',
      headers: {},
      body,
    })),
  );
  const seen = new Set<string>();
  await new Promise<void>((resolve) => {
    void events.subscribe('millrace.facts.>', { durable: 'late', prefetch: 1_000, batch: 1_000 }, async (deliveries) => {
      for (const { id } of deliveries) seen.add(id);
      if (seen.has('44999')) resolve();
      return deliveries.map(() => done);
    });
  });
  expect(seen.size).toBeLessThanOrEqual(20_000);
  expect(Array.from({ length: 10_000 }, (_, index) => seen.has(String(35_000 + index))).every(Boolean)).toBe(true);
});
