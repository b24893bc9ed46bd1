import {
  type Chunk,
  type ChunkItem,
  type ChunkSettled,
  effectIdOf,
  encodeStates,
  Gather,
  itemIdOf,
  keyOf,
  type Milliseconds,
  MillraceError,
  messageOf,
  type Time,
} from '@millrace/core';
import { context } from '@opentelemetry/api';
import type { Job, Log, Sink } from 'millrace';
import type { Breaker, Patience } from './breaker.ts';
import type { ChunkTrace } from './chunk-traces.ts';
import { classifyError, isInfrastructure, isPoison, isRetryableSql, isTransient } from './domain/classify-error.ts';
import { copyResults, fail, mergeResults, type Results } from './domain/results.ts';
import { isTodo, placesOf, positionOf, todoOf } from './domain/todo.ts';
import type { Entry, Inbox, InboxRow, InboxTransaction, Timing } from './inbox.ts';
import { isolateItems } from './isolate-items.ts';
import type { Isolation } from './isolation.ts';
import type { Payloads } from './payloads.ts';
import { runItems } from './run-items.ts';
import type { Slots } from './slots.ts';
import { unwatched, type Watchdog } from './watchdog.ts';

/** An item that keeps the event loop this long endangers heartbeats: from then on its job runs in other processes. */
const HOG: Milliseconds = 5_000;
/** How long a delivery is held when the sink is out of order: RabbitMQ's own patience ends after 30 minutes. */
const PATIENCE: Milliseconds = 20 * 60_000;
/** Chunks whose rows are committed together, at most. */
const COMMITTED_TOGETHER = 8;
/** Commits of rows at once: while one waits for the disk, the rows of the next are taken in. */
const COMMITS = 2;

export interface SettleChunkOptions {
  readonly job: Job;
  readonly inbox: Inbox;
  /** Shared by all jobs on this database. */
  readonly database: Breaker;
  /** Of a sink that is no database. */
  readonly outside: Breaker;
  readonly slots: Slots;
  readonly time: Time;
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
 *                     └─▶ one transaction { insert or lock the row, todo again, effects, row } ─▶ fact
 *                              │ the sink refused effects
 *                              └─▶ the same transaction, each slice under a savepoint and halved until the
 *                                  poisonous items are alone: they fail, the others are applied
 *
 * A first delivery of a first attempt skips the look into the inbox: the insert notices a duplicate just as well. Effects that are
 * rows of a table are committed in one round trip, together with those of chunks that were ready meanwhile.
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
  readonly #committing: Gather<Entry, InboxRow | undefined>;
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
    this.#committing = new Gather(COMMITTED_TOGETHER, COMMITS, (entries) => this.#commitRows(entries));
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
    const { sink } = this.#job;
    const processed = this.#time.now();
    if (sink.kind === 'function') await context.with(trace.context, () => this.#writeOutside(chunk, results, sink, patience));
    const timing = { queued: Math.max(0, started - sentAt), process: processed - started, commit: this.#time.now() - processed };
    let expected = known !== undefined;
    const commit = () =>
      this.#commit(chunk, results, timing, expected, processed).catch((error: unknown) => {
        expected ||= isCommitUnknown(error);
        throw error;
      });
    const row = await context.with(trace.context, () => this.#database.run(commit, patience));
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

  async #commit(chunk: Chunk, results: Results, timing: Timing, expected: boolean, since: number): Promise<InboxRow> {
    const row = expected ? undefined : await this.#commitAtOnce(chunk, results, timing, since);
    if (row) return row;
    let careful = false;
    for (let tries = 1; ; tries++) {
      const refused: { error?: unknown } = {};
      try {
        return await this.#inbox.transaction((tx) => this.#settleIn(tx, chunk, results, timing, { careful, expected, since, refused }));
      } catch (error) {
        const unknown = isCommitUnknown(error);
        // What user code threw is judged as it was thrown: a database may have wrapped it on the way out.
        const fault = 'error' in refused ? !isOurs(refused.error) : isPoison(error);
        if (!careful && fault && !unknown) careful = true;
        // Nobody knows whether it was committed; the next transaction finds the row, or writes it.
        else if (!unknown || tries >= 3) throw error;
        expected = unknown || expected;
      }
    }
  }

  /**
   * Effects that are rows of a table, and the row of a chunk that has none yet: one round trip. Undefined when anything stands in the
   * way, a row of the chunk included: the transaction finds out what.
   */
  async #commitAtOnce(chunk: Chunk, results: Results, timing: Timing, since: number): Promise<InboxRow | undefined> {
    const { sink, manifest } = this.#job;
    if (sink.kind !== 'postgres' || !sink.rows) return undefined;
    const { columns } = sink.rows;
    const values: unknown[][] = [];
    for (const index of results.todo) {
      if (results.states[index] !== 'a') continue;
      const effect = results.effects[index] as Record<string, unknown>;
      values.push(columns.map((column) => effect[column]));
    }
    if (values.length > manifest.batch.size) return undefined;
    const took = { ...timing, commit: this.#time.now() - since };
    try {
      const settled = mergeResults(chunk, undefined, results, results.todo);
      const row = await this.#committing.add({ chunk, settled, timing: took, values });
      return row && { ...row, timing: { ...took, commit: this.#time.now() - since } };
    } catch (error) {
      if (isInfrastructure(error) && !isCommitUnknown(error)) throw error;
      return undefined;
    }
  }

  async #commitRows(entries: readonly Entry[]): Promise<readonly (InboxRow | undefined)[]> {
    const { sink } = this.#job;
    if (sink.kind !== 'postgres' || !sink.rows) return [];
    // In one order everywhere: two processors that hold the same chunks must not wait for each other.
    const inOrder = [...entries].sort((a, b) => compareChunks(a.chunk, b.chunk));
    const rows = (await this.#inbox.insertWithRows(inOrder, sink.rows)) ?? [];
    return entries.map((entry) => rows[inOrder.indexOf(entry)]);
  }

  async #settleIn(
    tx: InboxTransaction,
    chunk: Chunk,
    results: Results,
    timing: Timing,
    how: { readonly careful: boolean; readonly expected: boolean; readonly since: number; readonly refused: { error?: unknown } },
  ): Promise<InboxRow> {
    // The database may call again after a deadlock.
    delete how.refused.error;
    let before = how.expected ? await tx.lock(chunk) : undefined;
    let row: InboxRow | undefined;
    if (!before) {
      row = await tx.insert(chunk, mergeResults(chunk, undefined, results, results.todo), timing);
      if (!row) {
        before = await tx.lock(chunk);
        if (!before) throw new MillraceError('MR3012', `the inbox row of ${chunk.runId}/${chunk.generation}/${chunk.seq} came and went`);
      }
    }
    const stored = before;
    const indexes = stored ? results.todo.filter((index) => isTodo(stored, positionOf(chunk, index), chunk.attempt)) : results.todo;
    if (stored && indexes.length === 0) return stored;
    const { sink } = this.#job;
    let settled = results;
    if (sink.kind === 'postgres') {
      if (how.careful) settled = copyResults(results);
      for (const slice of this.#slices(settled, indexes)) {
        if (how.careful)
          await this.#isolate(chunk, settled, slice, (effects) => tx.savepoint((inner) => sink.write(effects, inner)), isOurs);
        else {
          try {
            await tx.effects((inner) => sink.write(effectsOf(settled, slice), inner));
          } catch (error) {
            how.refused.error = error;
            throw error;
          }
        }
      }
    }
    const took = { ...timing, commit: this.#time.now() - how.since };
    if (row && !how.careful) return { ...row, timing: took };
    return tx.update(chunk, mergeResults(chunk, stored, settled, indexes), took);
  }

  /** Sinks outside of a database take effects before the row is stored: at least once, with stable ids. */
  async #writeOutside(chunk: Chunk, results: Results, sink: Extract<Sink, { kind: 'function' }>, patience: Patience): Promise<void> {
    const write = (effects: readonly unknown[], slice: readonly number[]) => {
      const effectIds = slice.map((index) => effectIdOf(itemIdOf(chunk.runId, keyOf(chunk.items[index] as ChunkItem)), sink.name));
      return sink.write(effects, { runId: chunk.runId, job: chunk.job, signal: this.#signal, effectIds });
    };
    for (const slice of this.#slices(results, results.todo))
      await this.#outside.run(
        () =>
          this.#isolate(
            chunk,
            results,
            // When the sink was out of order half-way, some may have been refused for good before.
            slice.filter((index) => results.states[index] === 'a'),
            write,
            isInfrastructure,
          ),
        patience,
      );
  }

  /** Halves a slice that the sink refuses for good; a refusal that may pass fails the slice as it is, for a later attempt. */
  async #isolate(
    chunk: Chunk,
    results: Results,
    slice: readonly number[],
    write: (effects: readonly unknown[], slice: readonly number[]) => unknown,
    isFatal: (error: unknown) => boolean,
  ): Promise<void> {
    if (slice.length === 0) return;
    try {
      await write(effectsOf(results, slice), slice);
    } catch (error) {
      if (isFatal(error)) throw error;
      const blame = isPoison(error) ? commitBlame(error) : classifyError(error);
      if (blame.retryAfter !== undefined && this.#job.sink.kind === 'function') this.#outside.pause(blame.retryAfter);
      if (slice.length > 1 && !isTransient(blame)) {
        const middle = slice.length >> 1;
        await this.#isolate(chunk, results, slice.slice(0, middle), write, isFatal);
        await this.#isolate(chunk, results, slice.slice(middle), write, isFatal);
        return;
      }
      for (const index of slice) fail(results, index, blame, chunk.attempt, this.#job.manifest.retry.attempts);
    }
  }

  /** Indexes with an effect, in batches of the job's size. */
  #slices(results: Results, indexes: readonly number[]): number[][] {
    const size = Math.max(1, this.#job.manifest.batch.size);
    const slices: number[][] = [];
    let slice: number[] = [];
    for (const index of indexes) {
      if (results.states[index] !== 'a') continue;
      if (slice.length === 0 || slice.length >= size) slices.push((slice = []));
      slice.push(index);
    }
    return slices;
  }
}

/** What the logic was given is done with. Kept until the commit, it would be copied by each collection of garbage until then. */
function forgetData({ items }: Chunk): void {
  for (const item of items) item[1] = undefined;
}

function compareChunks(a: Chunk, b: Chunk): number {
  if (a.runId !== b.runId) return a.runId < b.runId ? -1 : 1;
  return a.generation - b.generation || a.seq - b.seq;
}

function isCommitUnknown(error: unknown): boolean {
  return (error as { commitUnknown?: unknown } | null)?.commitUnknown === true;
}

function isOurs(error: unknown): boolean {
  return isRetryableSql(error) || isInfrastructure(error);
}

function commitBlame(error: unknown) {
  return classifyError(new MillraceError('MR1015', messageOf(error)), 'commit');
}

function effectsOf(results: Results, slice: readonly number[]): unknown[] {
  return slice.map((index) => results.effects[index]);
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
