import {
  type Chunk,
  type ChunkItem,
  type Instant,
  type JobManifest,
  type Milliseconds,
  MillraceError,
  type Time,
  whyNotJson,
} from '@millrace/core';
import { isReject, isSkip, type Job, type Log } from 'millrace';
import { classifyError, cut } from './domain/classify-error.ts';
import { fail, noResults, type Results } from './domain/results.ts';
import { ItemContext } from './item-context.ts';
import type { Slots } from './slots.ts';

/** Synchronous items keep the event loop this long at most before heartbeats and answers get their turn. */
const BREATHE_AFTER: Milliseconds = 50;
/** Where a sleeper is later than this the process stood still, nobody knows since when: the items get their time again. */
const STOOD_STILL: Milliseconds = 1_000;
/** How long items may take to notice that their signal has aborted. */
const LAST_WORDS: Milliseconds = 1_000;

export interface RunItems {
  readonly job: Pick<Job, 'name' | 'process'> & { readonly manifest: Pick<JobManifest, 'timeout' | 'retry'> };
  readonly chunk: Chunk;
  /** Indexes into `chunk.items`. */
  readonly todo: readonly number[];
  readonly slots: Slots;
  readonly time: Time;
  readonly log: Log;
  /** From here on nothing is started any more; what is under way ends in its own time. */
  readonly until: Instant;
  /** Aborts when there is no time left: items under way are told, and those that give up have no result. */
  readonly signal: AbortSignal;
  readonly watch: ItemWatch;
}

/** Is told where the logic stands; must be cheap and must not throw. */
export interface ItemWatch {
  /** `process` is about to be called for the item at this index. */
  entering(index: number): void;
  /** The call has returned; a promise may still be under way. */
  left(): void;
  /** The item has its result. */
  ended(index: number, results: Results): void;
}

/**
 * Runs `process` over the items. Synchronous code runs in a plain loop; from the first promise on, as many items are
 * under way as the job's concurrency allows. Never rejects for what an item does: that is a result. Items that were not
 * started in time, or gave up when the signal aborted, have none and have spent no attempt.
 */
export async function runItems(run: RunItems): Promise<Results> {
  const results = noResults(run.todo, run.chunk.items.length);
  await new ItemsUnderWay(run, results).finished();
  return results;
}

interface Flight {
  deadline: Instant;
  readonly context: ItemContext;
}

class ItemsUnderWay {
  readonly #run: RunItems;
  readonly #results: Results;
  /** By index, in the order of their start: all have the same timeout, so the first is due first. */
  readonly #flights = new Map<number, Flight>();
  /** Ends the sleepers; made when there is something to wait for. */
  #watch: AbortController | undefined;
  #next = 0;
  #breathing = false;
  #finish: () => void = () => {};

  constructor(run: RunItems, results: Results) {
    this.#run = run;
    this.#results = results;
  }

  async finished(): Promise<void> {
    const { signal } = this.#run;
    const giveUp = () => void this.#giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    await new Promise<void>((resolve) => {
      this.#finish = resolve;
      this.#pump();
    });
    signal.removeEventListener('abort', giveUp);
  }

  readonly #pump = (): void => {
    if (this.#breathing) return;
    const { todo, slots, time, signal, until } = this.#run;
    let now = time.now();
    const breathe = now + BREATHE_AFTER;
    while (this.#next < todo.length && !signal.aborted && now < until) {
      if (now >= breathe) return void this.#breathe();
      if (!slots.take(this.#pump)) return;
      const index = todo[this.#next++] as number;
      if (!this.#start(index, now)) slots.give();
      const before = now;
      now = time.now();
      if (now - before > this.#results.slowest) this.#results.slowest = now - before;
    }
    if (this.#flights.size > 0) return;
    this.#watch?.abort();
    this.#finish();
  };

  async #breathe(): Promise<void> {
    this.#breathing = true;
    await this.#run.time.sleep(0);
    this.#breathing = false;
    this.#pump();
  }

  /** True while the item holds its slot. */
  #start(index: number, now: Instant): boolean {
    const { job, chunk, log, watch } = this.#run;
    const item = chunk.items[index] as ChunkItem;
    const context = new ItemContext(chunk, item, log);
    let value: unknown;
    watch.entering(index);
    try {
      value = job.process(item[1], context);
    } catch (error) {
      watch.left();
      this.#thrown(index, error);
      return false;
    }
    watch.left();
    if (!isThenable(value)) {
      this.#returned(index, value);
      return false;
    }
    this.#flights.set(index, { deadline: now + job.manifest.timeout, context });
    value.then(
      (result) => {
        if (!this.#flights.delete(index)) return;
        this.#returned(index, result);
        this.#landed();
      },
      (error: unknown) => {
        if (!this.#flights.delete(index)) return;
        // An item that was told to stop has not failed.
        if (!this.#run.signal.aborted) this.#thrown(index, error);
        this.#landed();
      },
    );
    if (!this.#watch) {
      this.#watch = new AbortController();
      void this.#expire(this.#watch.signal);
    }
    return true;
  }

  #landed(): void {
    this.#run.slots.give();
    this.#pump();
  }

  /** One sleeper for the whole chunk instead of a timer per item. */
  async #expire(over: AbortSignal): Promise<void> {
    const { time, job } = this.#run;
    while (!over.aborted) {
      const [first] = this.#flights.values();
      const wait: Milliseconds = first ? first.deadline - time.now() : job.manifest.timeout;
      const since = time.now();
      if (wait > 0) await time.sleep(wait, over);
      const now = time.now();
      if (wait > 0 && now - since - wait > STOOD_STILL) {
        for (const flight of this.#flights.values()) flight.deadline += now - since;
        continue;
      }
      for (const [index, flight] of this.#flights) {
        if (flight.deadline > now) break;
        this.#flights.delete(index);
        const error = new MillraceError('MR1014', `no result after ${job.manifest.timeout} ms`);
        flight.context.abort(error);
        this.#thrown(index, error);
        this.#landed();
      }
    }
  }

  async #giveUp(): Promise<void> {
    const { signal, time, slots } = this.#run;
    for (const { context } of this.#flights.values()) context.abort(signal.reason);
    if (this.#watch) await time.sleep(LAST_WORDS, this.#watch.signal);
    for (const index of this.#flights.keys()) {
      this.#flights.delete(index);
      slots.give();
    }
    this.#pump();
  }

  #returned(index: number, value: unknown): void {
    if (isReject(value)) return this.#thrown(index, value);
    if (isSkip(value)) {
      this.#results.states[index] = 's';
      this.#results.skipReasons.set(index, cut(value.reason));
    } else {
      const problem = value === undefined ? 'process returned nothing' : whyNotJson(value);
      if (problem !== undefined) return this.#thrown(index, new MillraceError('MR1008', problem));
      this.#results.states[index] = 'a';
      this.#results.effects[index] = value;
    }
    this.#run.watch.ended(index, this.#results);
  }

  #thrown(index: number, error: unknown): void {
    const { job, chunk } = this.#run;
    // `throw skip(…)` is as clear as returning it.
    if (isSkip(error)) return this.#returned(index, error);
    const blame = isReject(error)
      ? { class: 'rejected' as const, message: cut(error.reason), retryAfter: undefined }
      : classifyError(error);
    fail(this.#results, index, blame, chunk.attempt, job.manifest.retry.attempts);
    this.#run.watch.ended(index, this.#results);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}
