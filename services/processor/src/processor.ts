import { setMaxListeners } from 'node:events';
import {
  Chunk,
  ChunkSettled,
  chunkIdOf,
  chunkQueue,
  codeOf,
  done,
  type Envelope,
  formatInstant,
  Gather,
  type Milliseconds,
  messageOf,
  park,
  retry,
  type Time,
  type Verdict,
} from '@millrace/core';
import type { Delivery, EventBroker, Handler, Subscription, WorkBroker } from '@millrace/messaging';
import type { Platform, Service } from '@millrace/runtime';
import type { Job, Log } from 'millrace';
import { Breaker } from './breaker.ts';
import { ChunkTraces } from './chunk-traces.ts';
import type { ProcessorConfig } from './config.ts';
import { contradictionIn } from './domain/todo.ts';
import type { Inbox } from './inbox.ts';
import type { Isolation } from './isolation.ts';
import type { Payloads } from './payloads.ts';
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
  /** In [0, 1). */
  readonly random: () => number;
  readonly log: Platform['log'];
  readonly config: ProcessorConfig;
  /** Where items lie that are too big to travel. */
  readonly payloads?: Payloads;
  /** Where to run what may end its process; undefined: here. */
  readonly isolation?: Isolation;
  /** Made when the processor starts. */
  readonly openWatchdog?: () => Watchdog;
  /** Deletes inbox rows older than `retention`; returns their number. */
  readonly purge?: (retention: Milliseconds) => Promise<number>;
}

const DEFAULT_GRACE_MS = 20_000;
const PAUSE_MS = 1_000;
/** Chunks of items too big to travel that may be in memory at once. */
const CLAIMS = 2;
const DAY_MS = 86_400_000;
/** Between looks for inbox rows to purge, with jitter. */
const PURGE_EVERY_MS = 3_600_000;
/** Of the grace, for what items have brought: commit, fact, acknowledgement. Of a short grace it is a third. */
const RESERVE_MS = 8_000;
/** A processor takes this many chunks at first, and more only when one of them was quick: slow ones are better spread over all processors. */
const FIRST_PREFETCH = 4;
const QUICK_MS = 250;
/** Facts published together, at most. */
const TOLD_TOGETHER = 64;

/**
 * Takes chunks, settles them, publishes the fact, and only then acknowledges: a crash anywhere before means
 * redelivery, and the inbox makes that harmless.
 *
 *   new ──start──▶ running ──stop──▶ draining ──▶ stopped; stop before start, and twice, are fine
 */
export class Processor implements Service {
  readonly name = 'processor';
  readonly #options: ProcessorOptions;
  /** Aborts when items have no more time, so that what they have brought can still be settled. */
  readonly #itemsOver = new AbortController();
  readonly #over = new AbortController();
  readonly #claims = new Slots(CLAIMS);
  /** By inbox, and by job for sinks outside. */
  readonly #breakers = new Map<unknown, Breaker>();
  readonly #traces: ChunkTraces;
  /** Answers with what went wrong, if anything. */
  readonly #facts: Gather<Envelope, { readonly error: unknown } | undefined>;
  #subscriptions: Subscription[] = [];
  #state: 'new' | 'running' | 'stopped' = 'new';
  #stopping: Promise<void> | undefined;
  #watchdog: Watchdog | undefined;
  #purging: Promise<void> | undefined;
  #opening: string | undefined = 'not started';

  constructor(options: ProcessorOptions) {
    this.#options = options;
    // Every chunk in hand listens.
    setMaxListeners(0, this.#itemsOver.signal, this.#over.signal);
    this.#traces = new ChunkTraces(options.work.system, options.time);
    this.#facts = new Gather(TOLD_TOGETHER, 1, (facts) => this.#tell(facts));
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
    this.#purging = this.#purge();
  }

  ready(): readonly string[] {
    const { work, events } = this.#options;
    const reasons: string[] = [];
    if (this.#state === 'stopped') reasons.push('stopping');
    if (this.#opening !== undefined) reasons.push(this.#opening);
    if (!work.connected()) reasons.push('no connection to the work broker');
    if (!events.connected()) reasons.push('no connection to the event broker');
    for (const { trouble } of this.#breakers.values()) if (trouble !== undefined) reasons.push(trouble);
    return reasons;
  }

  stop(graceMs = DEFAULT_GRACE_MS): Promise<void> {
    this.#stopping ??= this.#drain(graceMs);
    return this.#stopping;
  }

  async #drain(graceMs: number): Promise<void> {
    this.#state = 'stopped';
    const { time } = this.#options;
    const over = new AbortController();
    const drained = Promise.allSettled(this.#subscriptions.map((subscription) => subscription.drain())).then(() => over.abort());
    const reserve = Math.min(RESERVE_MS, graceMs / 3);
    await Promise.race([drained, time.sleep(graceMs - reserve, over.signal)]);
    this.#itemsOver.abort(new Error('the processor stops'));
    await Promise.race([drained, time.sleep(reserve, over.signal)]);
    // Whatever still runs is left unacknowledged: its chunk is delivered again elsewhere.
    this.#over.abort();
    await this.#purging;
    this.#traces.flush();
    await this.#options.isolation?.close();
    await this.#watchdog?.close();
  }

  async #consume(job: Job): Promise<void> {
    const { openInbox, time, config, isolation } = this.#options;
    const log = this.#options.log.child({ job: job.name });
    const inbox = await openInbox(job);
    if (this.#state === 'stopped') return;
    const settle = new SettleChunk({
      job,
      inbox,
      database: this.#breaker(inbox, `the database of ${job.name}`, log),
      outside: this.#breaker(job, `the sink of ${job.name}`, log),
      slots: new Slots(job.manifest.concurrency),
      time,
      log,
      budget: config.budget,
      signal: this.#itemsOver.signal,
      payloads: this.#options.payloads,
      claims: this.#claims,
      isolation,
      watchdog: this.#watchdog,
    });
    const trouble = new Trouble(log);
    const quick = once(() => {
      this.#subscribe(job, config.prefetch - FIRST_PREFETCH, handle).catch((error: unknown) =>
        log.warn({ err: error }, 'cannot take more chunks at once'),
      );
    });
    const handle = (deliveries: readonly Delivery[]) =>
      Promise.all(deliveries.map((delivery) => this.#handle(delivery, job, { settle, trouble, log, quick })));
    await this.#subscribe(job, Math.min(config.prefetch, FIRST_PREFETCH), handle);
  }

  async #subscribe(job: Job, prefetch: number, handle: Handler): Promise<void> {
    if (prefetch <= 0) return;
    const subscription = await this.#options.work.subscribe(chunkQueue(job.name), { durable: 'processor', prefetch, batch: 1 }, handle);
    // It may have been stopped meanwhile: then nobody else would end this one.
    if (this.#state === 'stopped') await subscription.drain();
    else this.#subscriptions.push(subscription);
  }

  async #purge(): Promise<void> {
    const { purge, time, random, log, config } = this.#options;
    const { signal } = this.#itemsOver;
    while (purge && config.inboxRetention > 0 && !signal.aborted) {
      await time.sleep(PURGE_EVERY_MS * (0.5 + random()), signal);
      if (signal.aborted) return;
      try {
        const rows = await purge(config.inboxRetention);
        if (rows > 0) log.info({ rows }, 'old inbox rows were deleted');
      } catch (error) {
        log.warn({ err: error }, 'old inbox rows could not be deleted; trying again later');
      }
    }
  }

  /** A day before its inbox rows may be deleted, a run is over: a late duplicate would find no trace of what was done. */
  #isTooOld({ openedAt }: Chunk): boolean {
    const { inboxRetention } = this.#options.config;
    return inboxRetention > 0 && openedAt < this.#options.time.now() - inboxRetention + Math.min(DAY_MS, inboxRetention / 2);
  }

  #breaker(key: unknown, what: string, log: Log): Breaker {
    const { time, random } = this.#options;
    const breaker = this.#breakers.get(key) ?? new Breaker(what, time, random, log);
    this.#breakers.set(key, breaker);
    return breaker;
  }

  /** One that the broker does not take must not hold up the others. */
  async #tell(facts: readonly Envelope[]): Promise<readonly ({ readonly error: unknown } | undefined)[]> {
    const { events } = this.#options;
    const { signal } = this.#over;
    try {
      await events.publish(facts, { together: true, signal });
      return [];
    } catch (error) {
      if (facts.length === 1) return [{ error }];
      const apart = await Promise.allSettled(facts.map((fact) => events.publish([fact], { signal })));
      return apart.map((told) => (told.status === 'rejected' ? { error: told.reason } : undefined));
    }
  }

  async #handle(delivery: Delivery, job: Job, { settle, trouble, log, quick }: Handling): Promise<Verdict> {
    const read = Chunk.read(delivery);
    if (!read.ok) return park(read.reason);
    const { data: chunk, at } = read.message;
    if (chunk.job !== job.name) return park(`MR2004 chunk of job ${JSON.stringify(chunk.job)} in the queue of ${job.name}`);
    const contradiction = contradictionIn(chunk);
    if (contradiction !== undefined) return park(`MR4001 chunk ${delivery.id}: ${contradiction}`);
    if (this.#isTooOld(chunk)) {
      log.error({ run: chunk.runId, chunk: delivery.id }, 'a chunk was parked: its run is older than inboxes are kept');
      return park(`MR4004 run ${chunk.runId}, opened ${formatInstant(chunk.openedAt)}, is older than inboxes are kept`);
    }
    const trace = this.#traces.begin(chunk, read.message.trace, at, delivery.deliveries);
    try {
      const fact = await settle.settle(chunk, at, delivery.deliveries, trace);
      if (!fact) return retry(0, 'there was no time for any item');
      for (const failure of fact.failures)
        log.debug({ run: chunk.runId, key: failure.key, fingerprint: failure.fingerprint }, 'item failed');
      const told = ChunkSettled.envelope(fact, this.#options.time.now(), this.#traces.settled(trace, fact));
      // Event brokers drop an id that they have seen a moment ago; whoever sends a chunk again wants to be told again.
      const untold = await this.#facts.add({ ...told, id: `${told.id}/${at}` });
      if (untold) throw untold.error;
      trouble.over();
      if (fact.timing.process < QUICK_MS) quick();
      return done;
    } catch (error) {
      this.#traces.gaveBack(trace, error);
      // Stored data that contradicts the chunk does not mend itself.
      if (codeOf(error)?.startsWith('MR4')) return park(messageOf(error));
      if (this.#itemsOver.signal.aborted) return retry(0, 'the processor stops');
      trouble.met(error, chunkIdOf(chunk.runId, chunk.generation, chunk.seq));
      return retry(PAUSE_MS, messageOf(error));
    }
  }
}

/** What the chunks of one job share. */
interface Handling {
  readonly settle: SettleChunk;
  readonly trouble: Trouble;
  readonly log: Log;
  /** A chunk was worked off quickly. */
  quick(): void;
}

function once(act: () => void): () => void {
  let acted = false;
  return () => {
    if (!acted) act();
    acted = true;
  };
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
