import { type Chunk, type ChunkItem, effectIdOf, Gather, itemIdOf, keyOf, MillraceError, messageOf, type Time } from '@millrace/core';
import type { Job, Sink } from 'millrace';
import type { Breaker, Patience } from './breaker.ts';
import { classifyError, isInfrastructure, isPoison, isRetryableSql, isTransient } from './domain/classify-error.ts';
import { copyResults, fail, mergeResults, type Results } from './domain/results.ts';
import { isTodo, positionOf } from './domain/todo.ts';
import type { Effect, Entry, Inbox, InboxRow, InboxTransaction, Timing } from './inbox.ts';

/** Chunks whose rows are committed together, at most. */
const COMMITTED_TOGETHER = 8;
/** Commits of rows at once: while one waits for the disk, the rows of the next are taken in. */
const COMMITS = 2;

export interface StoreResultsOptions {
  readonly job: Job;
  readonly inbox: Inbox;
  /** Shared by all jobs on this database. */
  readonly database: Breaker;
  /** Of a sink that is no database. */
  readonly outside: Breaker;
  readonly time: Time;
  /** Aborts when effects are to be given up that a sink outside has not taken yet. */
  readonly signal: AbortSignal;
}

/**
 * Brings the results of a chunk into its inbox row, and its effects into the sink.
 *
 *   results ─▶ one transaction { insert or lock the row, todo again, effects, row } ─▶ stored row
 *                  │ the sink refused effects
 *                  └─▶ the same transaction, each slice under a savepoint and halved until the
 *                      poisonous items are alone: they fail, the others are applied
 *
 * Effects that are rows of a table are committed in one round trip, together with those of chunks that were ready meanwhile.
 */
export class StoreResults {
  readonly #job: Job;
  readonly #inbox: Inbox;
  readonly #database: Breaker;
  readonly #outside: Breaker;
  readonly #time: Time;
  readonly #signal: AbortSignal;
  readonly #committing: Gather<Entry, InboxRow | undefined>;

  constructor(options: StoreResultsOptions) {
    this.#job = options.job;
    this.#inbox = options.inbox;
    this.#database = options.database;
    this.#outside = options.outside;
    this.#time = options.time;
    this.#signal = options.signal;
    this.#committing = new Gather(COMMITTED_TOGETHER, COMMITS, (entries) => this.#commitRows(entries));
  }

  /**
   * The row of the chunk as it is stored then; `known` says that it has one already. Rejects only for infrastructure: then no item has
   * spent an attempt.
   */
  async store(chunk: Chunk, results: Results, spent: Omit<Timing, 'commit'>, known: boolean, patience: Patience): Promise<InboxRow> {
    const since = this.#time.now();
    const { sink } = this.#job;
    if (sink.kind === 'function') await this.#writeOutside(chunk, results, sink, patience);
    const timing = { ...spent, commit: this.#time.now() - since };
    let expected = known;
    const commit = () =>
      this.#commit(chunk, results, timing, expected, since).catch((error: unknown) => {
        expected ||= isCommitUnknown(error);
        throw error;
      });
    return this.#database.run(commit, patience);
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
    const effects: Effect[] = [];
    for (const index of results.todo) if (results.states[index] === 'a') effects.push(results.effects[index] as Effect);
    if (effects.length > manifest.batch.size) return undefined;
    const took = { ...timing, commit: this.#time.now() - since };
    try {
      const settled = mergeResults(chunk, undefined, results, results.todo);
      const row = await this.#committing.add({ chunk, settled, timing: took, effects });
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
