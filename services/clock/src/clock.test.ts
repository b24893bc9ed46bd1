import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { JOBS_BUCKET, type JobManifest, Tick } from '@millrace/core';
import { type EventBroker, openMemoryBrokers } from '@millrace/messaging';
import type { Logger, Service } from '@millrace/runtime';
import { FakeTime, waitFor } from '@millrace/testing';
import { wireClock } from './wiring.ts';

const manifest = (name: string, cron: string): JobManifest => ({
  name,
  revision: 'r1',
  description: '',
  after: [],
  params: {},
  concurrency: 1,
  timeout: 1,
  schedule: { cron: [cron], timeZone: 'UTC', overlap: 'skip', catchUp: { mode: 'latest', window: 86_400_000 } },
  retry: { attempts: 1, backoff: 'fixed', base: 1, max: 1 },
  batch: { size: 1 },
  run: { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' },
});

describe('a clock', () => {
  let time: FakeTime;
  let events: EventBroker;
  let ticks: string[];
  let lines: string[];
  let clocks: Service[];

  const line = (fields: object | string, message?: string) => void lines.push(message ?? String(fields));
  const log: Logger = { debug() {}, info: line, warn: line, error: line, child: () => log };
  const clock = (over: Partial<EventBroker> = {}): Service => {
    const broker: EventBroker = { ...bound(events), ...over };
    const service = wireClock({ instance: `clock-${clocks.length}`, time, log, events: broker });
    clocks.push(service);
    return service;
  };
  const store = (job: JobManifest) => events.bucket(JOBS_BUCKET).put(job.name, JSON.stringify(job));

  beforeEach(async () => {
    time = new FakeTime('2026-03-01T10:00:30Z');
    events = openMemoryBrokers().events;
    [ticks, lines, clocks] = [[], [], []];
    await events.subscribe('millrace.ticks.>', { durable: 'test' }, async (deliveries) =>
      deliveries.map((delivery) => {
        const read = Tick.read(delivery);
        ticks.push(read.ok ? `${read.message.data.job} ${new Date(read.message.data.nominal).toISOString().slice(11, 19)}` : read.reason);
        return { kind: 'done' };
      }),
    );
  });
  afterEach(async () => {
    await Promise.all(clocks.map((one) => one.stop()));
    await events.close();
  });

  const settled = (...expected: string[]) => waitFor(() => ticks.length >= expected.length).then(() => expect(ticks).toEqual(expected));

  test('publishes the latest tick of a new job, then each as it becomes due', async () => {
    await store(manifest('a', '* * * * *'));
    await clock().start();
    await settled('a 10:00:00');
    await time.advance(29_000);
    await settled('a 10:00:00');
    await time.advance(61_000);
    await settled('a 10:00:00', 'a 10:01:00', 'a 10:02:00');
  });

  test('two of them give one tick per subject', async () => {
    await store(manifest('a', '* * * * *'));
    await clock().start();
    await clock().start();
    await time.advance(180_000);
    await settled('a 10:00:00', 'a 10:01:00', 'a 10:02:00', 'a 10:03:00');
  });

  test('notices a job that is added while it runs, within its poll', async () => {
    await clock().start();
    await time.advance(10_000);
    await store(manifest('b', '0 10 * * *'));
    await time.advance(2_000);
    await settled('b 10:00:00');
  });

  test('says once that a manifest is broken, and ticks for the others', async () => {
    const bucket = events.bucket(JOBS_BUCKET);
    await bucket.put('broken', '{');
    await bucket.put('other', JSON.stringify(manifest('another', '* * * * *')));
    await bucket.put('cron', JSON.stringify(manifest('cron', '61 * * * *')));
    await store(manifest('a', '0 * * * *'));
    await clock().start();
    await time.advance(20_000);
    await settled('a 10:00:00');
    expect(lines).toEqual(Array(3).fill('a job has no ticks: its manifest cannot be used'));
  });

  test('loses no tick when publishing fails, and is not ready meanwhile', async () => {
    await store(manifest('a', '* * * * *'));
    let broken = true;
    const service = clock({ publish: (...args) => (broken ? Promise.reject(new Error('MR3013 no stream')) : events.publish(...args)) });
    await service.start();
    await time.advance(60_000);
    expect(ticks).toEqual([]);
    expect(service.ready()).toEqual(['ticks cannot be published: MR3013 no stream']);
    expect(lines).toHaveLength(1);
    broken = false;
    await time.advance(2_000);
    await settled('a 10:01:00');
    expect(service.ready()).toEqual([]);
  });

  test('keeps ticking by the last known manifests while the bucket cannot be read', async () => {
    await store(manifest('a', '* * * * *'));
    let reads = 0;
    const bucket = events.bucket(JOBS_BUCKET);
    await clock({
      bucket: () => ({ ...bound(bucket), entries: () => (reads++ === 0 ? bucket.entries() : Promise.reject(new Error('away'))) }),
    }).start();
    await time.advance(60_000);
    await settled('a 10:00:00', 'a 10:01:00');
  });

  test('stops promptly even while the broker hangs, and may be stopped before it starts and twice', async () => {
    await store(manifest('a', '* * * * *'));
    const hanging = clock({ publish: () => new Promise(() => {}) });
    await hanging.stop();
    expect(hanging.ready()).toEqual(['not started']);
    await hanging.start();
    await time.advance(1_000);
    await hanging.stop();
    await hanging.stop();
    const deaf = clock({ bucket: () => ({ ...bound(events.bucket(JOBS_BUCKET)), entries: () => new Promise(() => {}) }) });
    await deaf.start();
    expect(deaf.ready()).toEqual(['job manifests not read yet']);
    await deaf.stop();
    expect(time.sleepers).toBe(0);
  });
});

/** The methods of an adapter, bound, so that a test can replace one of them. */
function bound<T extends object>(adapter: T): T {
  const methods: Record<string, unknown> = {};
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(adapter))) {
    const value = (adapter as Record<string, unknown>)[name];
    if (typeof value === 'function' && name !== 'constructor') methods[name] = value.bind(adapter);
  }
  return { ...adapter, ...methods };
}
