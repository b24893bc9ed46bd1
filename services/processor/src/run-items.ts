import { type Chunk, type Instant, type JobManifest, type Milliseconds, MillraceError, type Time, whyNotJson } from '@millrace/core';
import { isReject, isSkip, type Job, type Log } from 'millrace';
import { classifyError, cut } from './domain/classify-error.ts';
import { fail, noResults, type Results } from './domain/results.ts';
import { ItemContext } from './item-context.ts';
import type { Slots } from './slots.ts';

export interface RunItems {
  readonly job: Pick<Job, 'name' | 'process'> & { readonly manifest: Pick<JobManifest, 'timeout' | 'retry'> };
  readonly chunk: Chunk;
  /** Indexes into `chunk.items`. */
  readonly todo: readonly number[];
  readonly slots: Slots;
  readonly time: Time;
  readonly log: Log;
}

/**
 * Runs `process` over the items. Synchronous code runs in a plain loop; from the first promise on, as many items are
 * under way as the job's concurrency allows. Never rejects for what an item does: that is a result.
 */
export async function runItems(run: RunItems): Promise<Results> {
  const results = noResults(run.todo, run.chunk.items.length);
  await new ItemsUnderWay(run, results).finished();
  return results;
}

interface Flight {
  readonly deadline: Instant;
  readonly context: ItemContext;
}

class ItemsUnderWay {
  readonly #run: RunItems;
  readonly #results: Results;
  /** By index, in the order of their start: all have the same timeout, so the first is due first. */
  readonly #flights = new Map<number, Flight>();
  readonly #watch = new AbortController();
  #next = 0;
  #watching = false;
  #finish: () => void = () => {};

  constructor(run: RunItems, results: Results) {
    this.#run = run;
    this.#results = results;
  }

  finished(): Promise<void> {
    return new Promise((resolve) => {
      this.#finish = resolve;
      this.#pump();
    });
  }

  readonly #pump = (): void => {
    const { todo, slots } = this.#run;
    while (this.#next < todo.length) {
      if (!slots.take(this.#pump)) return;
      const index = todo[this.#next++] as number;
      if (!this.#start(index)) slots.give();
    }
    if (this.#flights.size === 0) {
      this.#watch.abort();
      this.#finish();
    }
  };

  /** True while the item holds its slot. */
  #start(index: number): boolean {
    const { job, chunk, time, log } = this.#run;
    const [key, data] = chunk.items[index] as [string, unknown];
    const context = new ItemContext(chunk, key, log);
    let value: unknown;
    try {
      value = job.process(data, context);
    } catch (error) {
      this.#thrown(index, error);
      return false;
    }
    if (!isThenable(value)) {
      this.#returned(index, value);
      return false;
    }
    this.#flights.set(index, { deadline: time.now() + job.manifest.timeout, context });
    value.then(
      (result) => {
        if (!this.#flights.delete(index)) return;
        this.#returned(index, result);
        this.#landed();
      },
      (error: unknown) => {
        if (!this.#flights.delete(index)) return;
        this.#thrown(index, error);
        this.#landed();
      },
    );
    if (!this.#watching && job.manifest.timeout > 0) {
      this.#watching = true;
      void this.#expire();
    }
    return true;
  }

  #landed(): void {
    this.#run.slots.give();
    this.#pump();
  }

  /** One sleeper for the whole chunk instead of a timer per item. */
  async #expire(): Promise<void> {
    const { time, job } = this.#run;
    while (!this.#watch.signal.aborted) {
      const [first] = this.#flights.values();
      const wait: Milliseconds = first ? first.deadline - time.now() : job.manifest.timeout;
      if (wait > 0) await time.sleep(wait, this.#watch.signal);
      const now = time.now();
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

  #returned(index: number, value: unknown): void {
    if (isSkip(value)) {
      this.#results.states[index] = 's';
      this.#results.skipReasons.set(index, cut(value.reason));
      return;
    }
    if (isReject(value)) return this.#thrown(index, value);
    const problem = value === undefined ? 'process returned nothing' : whyNotJson(value);
    if (problem !== undefined) return this.#thrown(index, new MillraceError('MR1008', problem));
    this.#results.states[index] = 'a';
    this.#results.effects[index] = value;
  }

  #thrown(index: number, error: unknown): void {
    const { job, chunk } = this.#run;
    // `throw skip(…)` is as clear as returning it.
    if (isSkip(error)) return this.#returned(index, error);
    const blame = isReject(error)
      ? { class: 'rejected' as const, message: cut(error.reason), retryAfter: undefined }
      : classifyError(error);
    fail(this.#results, index, blame, chunk.attempt, job.manifest.retry.attempts);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}
