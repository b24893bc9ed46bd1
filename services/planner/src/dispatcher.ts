import { chunkQueue, codeOf, type Time } from '@millrace/core';
import type { WorkBroker } from '@millrace/messaging';
import type { Logger } from '@millrace/runtime';
import { encodeChunk } from './chunk-message.ts';
import type { DispatchSpan, DispatchSpans } from './dispatch-spans.ts';
import { RetryBudgets } from './domain/retry-budget.ts';
import type { ChunkClaim, DueChunk, PlanStore, SentChunk } from './plan-store.ts';
import { Trouble } from './trouble.ts';

/** Chunks claimed at once, first attempts and retries: bounds the memory that payloads take. */
const CLAIM = 64;
const CLAIM_RETRIES = 32;
/** Longest pause between looks at the table; new work and due retries wake it sooner. */
const IDLE = 1_000;

export interface DispatcherParts {
  readonly store: PlanStore;
  readonly work: WorkBroker;
  readonly time: Time;
  /** In [0, 1). */
  readonly random: () => number;
  readonly log: Logger;
  readonly spans: DispatchSpans;
  /** Told of what the broker has confirmed. */
  readonly confirmed: (chunks: readonly SentChunk[]) => void;
  readonly jobs: readonly string[];
  /** Chunks of one run that may be in the broker at once. */
  readonly window: number;
}

/**
 * Keeps the window of every run filled from the planner's table and sends retries when they are due.
 * The table is the queue: whatever the broker loses is still here.
 */
export class Dispatcher {
  readonly #store: PlanStore;
  readonly #work: WorkBroker;
  readonly #time: Time;
  readonly #log: Logger;
  readonly #jobs: readonly string[];
  readonly #window: number;
  readonly #spans: DispatchSpans;
  readonly #confirmed: DispatcherParts['confirmed'];
  readonly #trouble: Trouble;
  readonly #budgets = new RetryBudgets();
  #sent = 0;
  #wake: AbortController | undefined;
  #awake = false;
  /** Chunks are due that may go as soon as others have settled. */
  #held = false;

  constructor({ store, work, time, random, log, spans, confirmed, jobs, window }: DispatcherParts) {
    this.#spans = spans;
    this.#confirmed = confirmed;
    this.#store = store;
    this.#work = work;
    this.#time = time;
    this.#log = log;
    this.#jobs = jobs;
    this.#window = window;
    this.#trouble = new Trouble('dispatch', random, log);
  }

  /** There may be something to send. */
  wake = (): void => {
    this.#awake = true;
    this.#wake?.abort();
  };

  /** Chunks have settled; `again` when items of theirs are to be tried again. Whoever rests and holds nothing back is left alone. */
  settled = (again: boolean): void => {
    if (again || this.#held || !this.#wake) this.wake();
  };

  /** First attempts that were sent since it was asked last. */
  takeSent(): number {
    const sent = this.#sent;
    this.#sent = 0;
    return sent;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#awake = false;
      try {
        const chunks = await this.#claim();
        if (chunks.length > 0) {
          await this.#send(chunks, signal);
          this.#trouble.over();
          continue;
        }
        const { due, held } = await this.#store.waiting(this.#jobs);
        this.#held = held;
        this.#trouble.over();
        if (!this.#awake) await this.#pause(Math.min(IDLE, Math.max(due ?? IDLE, 5)), signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#time.sleep(this.#trouble.met(error), signal);
      }
    }
  }

  /** First attempts, and retries as far as the budgets of their jobs go; these bind only while first attempts wait. */
  async #claim(): Promise<readonly DueChunk[]> {
    const now = this.#time.now();
    const claim: ChunkClaim = { jobs: this.#jobs, window: this.#window, limit: CLAIM, kind: 'first', throttled: [] };
    const first = await this.#store.claimChunks(claim);
    this.#budgets.sentFirst(first, now);
    const again = await this.#store.claimChunks({
      ...claim,
      limit: CLAIM_RETRIES,
      kind: 'retry',
      throttled: this.#budgets.exhausted(now),
    });
    this.#budgets.sentAgain(again, now);
    this.#sent += first.length;
    return [...first, ...again];
  }

  async #send(chunks: readonly DueChunk[], signal: AbortSignal): Promise<void> {
    const spans = this.#startSpans(chunks);
    try {
      await this.#work.publish(
        chunks.map((chunk) => encodeChunk({ ...chunk, trace: spans.get(chunk.runId)?.trace ?? chunk.trace }, this.#time.now())),
        { signal },
      );
      this.#confirmed(chunks);
      for (const span of spans.values()) span.end();
    } catch (error) {
      for (const span of spans.values()) span.end(error);
      await this.#store.releaseChunks(chunks);
      // A message with nowhere to go: its queue is gone, and with it what it held.
      if (codeOf(error) === 'MR3013')
        for (const job of new Set(chunks.map((chunk) => chunk.job))) await ensureQueue(job, this.#store, this.#work, this.#log);
      throw error;
    }
  }

  /** One span per run. */
  #startSpans(chunks: readonly DueChunk[]): ReadonlyMap<string, DispatchSpan> {
    const spans = new Map<string, DispatchSpan>();
    for (const { runId, job, trace, attempt } of chunks) {
      if (spans.has(runId)) continue;
      const together = chunks.filter((chunk) => chunk.runId === runId).length;
      spans.set(runId, this.#spans.start({ runId, job, chunks: together, retry: attempt > 1, parent: trace }));
    }
    return spans;
  }

  async #pause(duration: number, signal: AbortSignal): Promise<void> {
    this.#wake = new AbortController();
    await this.#time.sleep(duration, AbortSignal.any([signal, this.#wake.signal]));
    this.#wake = undefined;
  }
}

/** Declares the queue of a job; when what had been sent to it is gone, that is due again. */
export async function ensureQueue(job: string, store: PlanStore, work: WorkBroker, log: Logger): Promise<void> {
  await work.ensure(chunkQueue(job), async () => {
    const chunks = await store.resetEmitted(job);
    if (chunks > 0) log.warn({ job, chunks }, 'the work queue has lost what it held; its chunks are sent again');
  });
}
