import { Chunk, type Envelope, type Time, Trigger } from '@millrace/core';
import { type EventBroker, openMemoryBrokers, type WorkBroker } from '@millrace/messaging';
import type { Database } from '@millrace/postgres';
import type { Platform, Service } from '@millrace/runtime';
import { defineJob, type ItemsContext, type Job } from 'millrace';
import { PostgresPlanStore } from './adapters/postgres-plan-store.ts';
import { type PlannerConfig, plannerDefaults } from './config.ts';
import { Planner } from './planner.ts';

/** For tests: planners on a real database, each a process of its own as far as one can be had inside another. */
export const silent = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

/** Real time that can be frozen, like a process that got SIGSTOP: sleepers wake only once it is thawed. */
export class FreezableTime implements Time {
  #frozen: Promise<void> | undefined;
  #thaw: () => void = () => undefined;

  now = () => Date.now();

  freeze(): void {
    this.#frozen = new Promise((resolve) => {
      this.#thaw = resolve;
    });
  }

  thaw(): void {
    this.#frozen = undefined;
    this.#thaw();
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener('abort', done, { once: true });
    });
    await this.#frozen;
  }
}

/** The real store, counting how often lost work was looked for. */
export class WatchedPlanStore extends PostgresPlanStore {
  looks = 0;

  override resetStalled(...args: Parameters<PostgresPlanStore['resetStalled']>) {
    this.looks++;
    return super.resetStalled(...args);
  }
}

export interface Brokers {
  readonly work: WorkBroker;
  readonly events: EventBroker;
}

export interface PlannerFixture {
  readonly planner: Service;
  readonly store: WatchedPlanStore;
  readonly time: FreezableTime;
  readonly brokers: Brokers;
  /** What has been sent to processors. */
  readonly chunks: Chunk[];
  trigger(job: string, key: string): Promise<void>;
  send(envelope: Envelope): Promise<void>;
}

export async function startPlanner(
  db: Database,
  jobs: readonly Job[],
  {
    config = {},
    brokers = openMemoryBrokers(),
    consume = true,
    log = silent,
  }: {
    config?: Partial<PlannerConfig>;
    brokers?: Brokers;
    /** Takes chunks and acknowledges them, without any fact. Default true. */
    consume?: boolean;
    log?: Platform['log'];
  } = {},
): Promise<PlannerFixture> {
  const time = new FreezableTime();
  const platform: Platform = {
    instance: 'test',
    time,
    random: () => 0,
    log,
    database: db,
    ...brokers,
    jobs: new Map(jobs.map((job) => [job.name, job])),
  };
  const store = new WatchedPlanStore(db);
  const planner = new Planner(platform, { ...plannerDefaults, lease: 2_000, ...config }, store);
  await planner.start();
  const chunks: Chunk[] = [];
  for (const { name } of consume ? jobs : [])
    await brokers.work.subscribe(`millrace.chunks.${name}`, { durable: 'x' }, async (deliveries) =>
      deliveries.map((delivery) => {
        const read = Chunk.read(delivery);
        if (!read.ok) throw new Error(read.reason);
        chunks.push(read.message.data);
        return { kind: 'done' };
      }),
    );
  const send = (envelope: Envelope) => brokers.events.publish([envelope]);
  return {
    planner,
    store,
    time,
    brokers,
    chunks,
    send,
    trigger: (job, key) => send(Trigger.envelope({ job, key, requestedAt: Date.now() }, Date.now())),
  };
}

export type Source = (ctx: ItemsContext) => Iterable<unknown> | AsyncIterable<unknown>;

/** A job over numbered items that nobody processes. */
export function jobOf(
  name: string,
  source: Source,
  { spool = false, ...options }: { spool?: boolean } & Record<string, unknown> = {},
): Job {
  return defineJob(name, { retry: { attempts: 3, base: 1 }, ...options })
    .items(source as never, { key: ((item: { id: number }) => item.id) as never, spool })
    .process((item) => item as never)
    .commit(() => {}) as unknown as Job;
}

export function* numbers(from: number, to: number): Generator<{ id: number }> {
  for (let id = from; id < to; id++) yield { id };
}

/** A promise that is kept from outside. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}
