import { Chunk, ChunkSettled, chunkIdOf, chunkQueue, codeOf, done, messageOf, park, retry, type Time, type Verdict } from '@millrace/core';
import type { Delivery, EventBroker, Subscription, WorkBroker } from '@millrace/messaging';
import type { Platform, Service } from '@millrace/runtime';
import type { Job, Log } from 'millrace';
import { ChunkTraces } from './chunk-traces.ts';
import type { ProcessorConfig } from './config.ts';
import { contradictionIn } from './domain/todo.ts';
import type { Inbox } from './inbox.ts';
import type { Isolation } from './isolation.ts';
import { SettleChunk } from './settle-chunk.ts';
import { Slots } from './slots.ts';
import type { Watchdog } from './watchdog.ts';

/** Opens the inbox in the database of a job's sink, after whatever the sink needs has been set up there. */
export type OpenInbox = (job: Job) => Promise<Inbox>;

export interface ProcessorOptions {
  readonly jobs: ReadonlyMap<string, Job>;
  readonly work: WorkBroker;
  readonly events: EventBroker;
  readonly openInbox: OpenInbox;
  readonly time: Time;
  readonly log: Platform['log'];
  readonly config: ProcessorConfig;
  /** Where to run what may end its process; undefined: here. */
  readonly isolation?: Isolation;
  /** Made when the processor starts. */
  readonly openWatchdog?: () => Watchdog;
}

const DEFAULT_GRACE_MS = 20_000;
const PAUSE_MS = 1_000;

/**
 * Takes chunks, settles them, publishes the fact, and only then acknowledges: a crash anywhere before means
 * redelivery, and the inbox makes that harmless.
 *
 *   new ──start──▶ running ──stop──▶ draining ──▶ stopped; stop before start, and twice, are fine
 */
export class Processor implements Service {
  readonly name = 'processor';
  readonly #options: ProcessorOptions;
  readonly #abort = new AbortController();
  readonly #traces: ChunkTraces;
  #subscriptions: Subscription[] = [];
  #state: 'new' | 'running' | 'stopped' = 'new';
  #stopping: Promise<void> | undefined;
  #watchdog: Watchdog | undefined;
  #opening: string | undefined = 'not started';

  constructor(options: ProcessorOptions) {
    this.#options = options;
    this.#traces = new ChunkTraces(options.work.system, options.time);
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    this.#watchdog = this.#options.openWatchdog?.();
    for (const job of this.#options.jobs.values()) {
      this.#opening = `preparing the sink of ${job.name}`;
      await this.#consume(job);
    }
    this.#opening = undefined;
  }

  ready(): readonly string[] {
    const { work, events } = this.#options;
    const reasons: string[] = [];
    if (this.#state === 'stopped') reasons.push('stopping');
    if (this.#opening !== undefined) reasons.push(this.#opening);
    if (!work.connected()) reasons.push('no connection to the work broker');
    if (!events.connected()) reasons.push('no connection to the event broker');
    return reasons;
  }

  stop(graceMs = DEFAULT_GRACE_MS): Promise<void> {
    this.#stopping ??= this.#drain(graceMs);
    return this.#stopping;
  }

  async #drain(graceMs: number): Promise<void> {
    this.#state = 'stopped';
    const over = new AbortController();
    const drained = Promise.allSettled(this.#subscriptions.map((subscription) => subscription.drain())).then(() => over.abort());
    await Promise.race([drained, this.#options.time.sleep(graceMs, over.signal)]);
    // Whatever still runs is left unacknowledged: its chunk is delivered again elsewhere.
    this.#abort.abort();
    this.#traces.flush();
    await this.#options.isolation?.close();
    await this.#watchdog?.close();
  }

  async #consume(job: Job): Promise<void> {
    const { openInbox, time, work, config, isolation } = this.#options;
    const log = this.#options.log.child({ job: job.name });
    const inbox = await openInbox(job);
    if (this.#state === 'stopped') return;
    const settle = new SettleChunk({
      job,
      inbox,
      slots: new Slots(job.manifest.concurrency),
      time,
      log,
      budget: config.budget,
      signal: this.#abort.signal,
      isolation,
      watchdog: this.#watchdog,
    });
    const trouble = new Trouble(log);
    const queue = chunkQueue(job.name);
    const handle = (deliveries: readonly Delivery[]) =>
      Promise.all(deliveries.map((delivery) => this.#handle(delivery, job, settle, trouble, log)));
    this.#subscriptions.push(await work.subscribe(queue, { durable: 'processor', prefetch: config.prefetch, batch: 1 }, handle));
  }

  async #handle(delivery: Delivery, job: Job, settle: SettleChunk, trouble: Trouble, log: Log): Promise<Verdict> {
    const read = Chunk.read(delivery);
    if (!read.ok) return park(read.reason);
    const { data: chunk, at } = read.message;
    if (chunk.job !== job.name) return park(`MR2004 chunk of job ${JSON.stringify(chunk.job)} in the queue of ${job.name}`);
    const contradiction = contradictionIn(chunk);
    if (contradiction !== undefined) return park(`MR4001 chunk ${delivery.id}: ${contradiction}`);
    const trace = this.#traces.begin(chunk, read.message.trace, at, delivery.deliveries);
    try {
      const fact = await settle.settle(chunk, at, delivery.deliveries, trace);
      if (!fact) return retry(0, 'there was no time for any item');
      for (const failure of fact.failures)
        log.debug({ run: chunk.runId, key: failure.key, fingerprint: failure.fingerprint }, 'item failed');
      await this.#options.events.publish([ChunkSettled.envelope(fact, this.#options.time.now(), this.#traces.settled(trace, fact))], {
        signal: this.#abort.signal,
      });
      trouble.over();
      return done;
    } catch (error) {
      this.#traces.gaveBack(trace, error);
      // Stored data that contradicts the chunk does not mend itself.
      if (codeOf(error) === 'MR4003') return park(messageOf(error));
      trouble.met(error, chunkIdOf(chunk.runId, chunk.generation, chunk.seq));
      return retry(PAUSE_MS, messageOf(error));
    }
  }
}

/** One line when trouble begins and one when it is over, not one per delivery. */
class Trouble {
  readonly #log: Log;
  #met = false;

  constructor(log: Log) {
    this.#log = log;
  }

  met(error: unknown, chunk: string): void {
    if (!this.#met) this.#log.warn({ err: error, chunk }, 'cannot settle chunks; trying again every second, no item spends an attempt');
    this.#met = true;
  }

  over(): void {
    if (this.#met) this.#log.info({}, 'chunks are settled again');
    this.#met = false;
  }
}
