import { type Chunk, type ChunkSettled, encodeStates, type Milliseconds, MillraceError, type Time } from '@millrace/core';
import { context } from '@opentelemetry/api';
import type { Job, Log } from 'millrace';
import type { Breaker, Patience } from './breaker.ts';
import type { ChunkTrace } from './chunk-traces.ts';
import type { Results } from './domain/results.ts';
import { isTodo, placesOf, todoOf } from './domain/todo.ts';
import type { Inbox, InboxRow } from './inbox.ts';
import { isolateItems } from './isolate-items.ts';
import type { Isolation } from './isolation.ts';
import type { Payloads } from './payloads.ts';
import { runItems } from './run-items.ts';
import type { Slots } from './slots.ts';
import { StoreResults, type StoreResultsOptions } from './store-results.ts';
import { unwatched, type Watchdog } from './watchdog.ts';

/** An item that keeps the event loop this long endangers heartbeats: from then on its job runs in other processes. */
const HOG: Milliseconds = 5_000;
/** How long a delivery is held when the sink is out of order: RabbitMQ's own patience ends after 30 minutes. */
const PATIENCE: Milliseconds = 20 * 60_000;

export interface SettleChunkOptions extends StoreResultsOptions {
  readonly slots: Slots;
  readonly log: Log;
  /** How long a delivery may go on starting items; well below the broker's patience with unacknowledged messages. */
  readonly budget: Milliseconds;
  /** Aborts when items have no more time: those without a result are handed back. */
  readonly signal: AbortSignal;
  /** For items too big to travel; undefined where nobody sends any. */
  readonly payloads: Payloads | undefined;
  /** How many chunks of such items may be in memory at once, over all jobs. */
  readonly claims: Slots;
  /** Undefined where jobs cannot be loaded a second time: everything runs in this process. */
  readonly isolation: Isolation | undefined;
  readonly watchdog: Watchdog | undefined;
}

/**
 * Brings one delivery of a chunk to a stored result, whatever happened to earlier deliveries of it.
 *
 *   delivery ─▶ todo ──empty──────────────────────────────────▶ fact from the stored row
 *                └─▶ run, here when it is the first delivery, else in another process: an earlier one may have ended its process
 *                     └─▶ store ─▶ fact from the stored row
 *
 * A first delivery of a first attempt skips the look into the inbox: the insert notices a duplicate just as well.
 */
export class SettleChunk {
  readonly #job: Job;
  readonly #inbox: Inbox;
  readonly #database: Breaker;
  readonly #outside: Breaker;
  readonly #slots: Slots;
  readonly #time: Time;
  readonly #log: Log;
  readonly #budget: Milliseconds;
  readonly #signal: AbortSignal;
  readonly #payloads: Payloads | undefined;
  readonly #claims: Slots;
  readonly #isolation: Isolation | undefined;
  readonly #watchdog: Watchdog | undefined;
  readonly #storing: StoreResults;
  #hogs = false;

  constructor(options: SettleChunkOptions) {
    this.#job = options.job;
    this.#inbox = options.inbox;
    this.#database = options.database;
    this.#outside = options.outside;
    this.#slots = options.slots;
    this.#time = options.time;
    this.#log = options.log;
    this.#budget = options.budget;
    this.#signal = options.signal;
    this.#payloads = options.payloads;
    this.#claims = options.claims;
    this.#isolation = options.isolation;
    this.#watchdog = options.watchdog;
    this.#storing = new StoreResults(options);
  }

  /**
   * The fact to publish; undefined when there was no time for any item, so that nothing is to be told. Rejects only for
   * infrastructure: then no item has spent an attempt.
   */
  async settle(chunk: Chunk, sentAt: number, deliveries: number, trace: ChunkTrace): Promise<ChunkSettled | undefined> {
    if (!chunk.claim) return this.#settle(chunk, sentAt, deliveries, trace);
    await this.#claims.takeAll(1);
    try {
      return await this.#settle(chunk, sentAt, deliveries, trace);
    } finally {
      this.#claims.give();
    }
  }

  async #settle(message: Chunk, sentAt: number, deliveries: number, trace: ChunkTrace): Promise<ChunkSettled | undefined> {
    let chunk = message;
    const started = this.#time.now();
    // A chunk without items only asks for its fact again: somebody has lost it.
    const asked = chunk.items.length === 0 && !chunk.claim;
    const again = deliveries > 1 || (chunk.emits ?? 1) > 1;
    const first = !again && chunk.attempt === 1 && !chunk.positions && !asked;
    const patience: Patience = { until: started + PATIENCE, signal: this.#signal };
    await this.#outside.rest(patience);
    // Out of order as well: no logic is run whose results could not be stored.
    const known = first && this.#database.closed ? undefined : await this.#database.run(() => this.#inbox.find(chunk), patience);
    if (asked && !known)
      throw new MillraceError('MR4003', `the inbox row of ${chunk.runId}/${chunk.generation}/${chunk.seq}, settled before, is gone`);
    if (chunk.claim && known && !placesOf(chunk).some((place) => isTodo(known, place, chunk.attempt))) return factOf(chunk, known);
    if (chunk.claim) chunk = await this.#withItems(chunk, patience);
    const todo = todoOf(chunk, known);
    if (known && todo.length === 0) return factOf(chunk, known);
    const processedAll = trace.enter('process');
    const results = await context.with(trace.context, () => this.#run(chunk, todo, again));
    processedAll();
    forgetData(chunk);
    if (todo.every((index) => results.states[index] === undefined)) return undefined;
    const committed = trace.enter('commit');
    const spent = { queued: Math.max(0, started - sentAt), process: this.#time.now() - started };
    const row = await context.with(trace.context, () => this.#storing.store(chunk, results, spent, known !== undefined, patience));
    committed();
    return factOf(chunk, row);
  }

  async #withItems(chunk: Chunk, patience: Patience): Promise<Chunk> {
    const all = await this.#database.run(async () => this.#payloads?.load(chunk), patience);
    const items = all && placesOf(chunk).map((place) => all[place]);
    if (!items?.every((item) => item !== undefined))
      throw new MillraceError('MR4005', `${chunk.size} item(s) of ${chunk.runId}/${chunk.generation}/${chunk.seq}`);
    return { ...chunk, items };
  }

  async #run(chunk: Chunk, todo: readonly number[], again: boolean): Promise<Results> {
    const work = {
      job: this.#job,
      chunk,
      todo,
      slots: this.#slots,
      time: this.#time,
      until: this.#time.now() + this.#budget,
      signal: this.#signal,
    };
    if (this.#isolation && (again || this.#hogs)) return isolateItems({ ...work, isolation: this.#isolation });
    const results = await runItems({ ...work, log: this.#log, watch: this.#watchdog?.watch(chunk) ?? unwatched });
    if (this.#isolation && results.slowest >= HOG && !this.#hogs) {
      this.#hogs = true;
      this.#log.warn({ ms: results.slowest }, 'an item kept the event loop: this job runs in processes of its own from now on');
    }
    return results;
  }
}

/** What the logic was given is done with. Kept until the commit, it would be copied by each collection of garbage until then. */
function forgetData({ items }: Chunk): void {
  for (const item of items) item[1] = undefined;
}

function factOf(chunk: Chunk, row: InboxRow): ChunkSettled {
  return {
    runId: chunk.runId,
    job: chunk.job,
    generation: chunk.generation,
    seq: chunk.seq,
    attempt: row.attempt,
    size: row.size,
    outcomes: encodeStates(row.states),
    failures: [...row.failures],
    skips: { ...row.skips },
    settledAt: row.settledAt,
    ...(row.retryAfter === undefined ? {} : { retryAfter: row.retryAfter }),
    timing: row.timing,
  };
}
