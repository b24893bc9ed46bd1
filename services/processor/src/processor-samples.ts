import type { Chunk } from '@millrace/core';
import { openMemoryBrokers } from '@millrace/messaging';
import type { Database } from '@millrace/postgres';
import type { Platform } from '@millrace/runtime';
import type { Job, PoolLike, Sink } from 'millrace';

/** Jobs, chunks and a platform for the tests of this service. */
interface SampleJob {
  readonly process: Job['process'];
  readonly write?: Extract<Sink, { kind: 'postgres' }>['write'];
  readonly sink?: Sink;
  readonly send?: Extract<Sink, { kind: 'function' }>['write'];
  readonly batch?: number;
  readonly attempts?: number;
  readonly pool?: PoolLike;
  readonly setup?: string;
}

export function sampleJob({ process, write, sink: given, send, batch = 100, attempts = 3, pool, setup }: SampleJob): Job {
  const sink = send ? { kind: 'function', name: 'outside', write: send } : { kind: 'postgres', name: 'postgres', pool, setup, write };
  return {
    name: 'sync',
    process,
    sink: given ?? (sink as Sink),
    items: () => [],
    key: (item) => (item as { id: string }).id,
    parseParams: () => ({}),
    manifest: {
      name: 'sync',
      revision: 'r1',
      description: '',
      schedule: null,
      after: [],
      params: {},
      concurrency: 8,
      timeout: 60_000,
      retry: { attempts, backoff: 'fixed', base: 10, max: 10 },
      batch: { size: batch },
      run: { tolerate: { count: 0, percent: 0 }, onEmpty: 'ok' },
    },
  } as Job;
}

/** A chunk of `size` items `{ id: 'k0', n: 0 } …`; with `positions`, only those travel. */
export function sampleChunk(size: number, over: Partial<Chunk> = {}, positions?: number[]): Chunk {
  const places = positions ?? Array.from({ length: size }, (_, i) => i);
  return {
    runId: 'sync@manual:1',
    job: 'sync',
    generation: 0,
    seq: 0,
    attempt: 1,
    size,
    openedAt: 0,
    tickAt: 0,
    tick: 'manual:1',
    params: {},
    items: places.map((n) => [`k${n}`, { id: `k${n}`, n }]),
    ...(positions ? { positions } : {}),
    ...over,
  };
}

let now = 5_000;

/** Short pauses pass at once, moving the clock; long ones last until they are aborted: nothing waits. */
const time: Platform['time'] = {
  now: () => now,
  sleep: (duration, signal) =>
    new Promise((resolve) => {
      if (duration <= 1_000 || signal?.aborted) {
        now += signal?.aborted ? 0 : duration;
        setImmediate(resolve);
      } else signal?.addEventListener('abort', () => resolve(), { once: true });
    }),
};

export const quietLog = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => quietLog,
} as unknown as Platform['log'];

export function samplePlatform(database: Database, job: Job): Platform {
  const { work, events } = openMemoryBrokers(time);
  return {
    instance: 'test',
    time,
    random: () => 0.5,
    log: quietLog,
    database,
    work,
    events,
    jobs: new Map([[job.name, job]]),
  };
}
