import { type Envelope, type Instant, keysIn, type Milliseconds, type Time } from '@millrace/core';
import type { Publisher } from '@millrace/messaging';
import { traceOf } from '@millrace/runtime';
import type { Span } from '@opentelemetry/api';
import { encodeChunk } from './chunk-message.ts';
import type { DispatchSpans } from './dispatch-spans.ts';
import type { ChunkBuffers } from './domain/chunk-buffers.ts';
import { type BuiltChunk, CLAIM_BYTES } from './domain/chunk-builder.ts';
import { ROOM_PAUSE } from './domain/settle-pace.ts';
import { LostRun } from './lease.ts';
import type { PlanningRun, PlanProgress, PlanStore, SentChunk } from './plan-store.ts';

/** Chunks stored in one statement, at most; the first ones go out sooner. */
export const TOGETHER = 16;

export interface WriterContext {
  readonly store: PlanStore;
  readonly work: Publisher;
  readonly buffers: ChunkBuffers;
  readonly time: Time;
  /** Chunks of one run that may be in the broker at once. */
  readonly window: number;
  readonly spans: DispatchSpans;
  /** Told of what the broker has confirmed. */
  readonly confirmed: (chunks: readonly SentChunk[]) => void;
  /** Called when chunks could not go out at once, so that the dispatcher takes them. */
  readonly wakeDispatcher: () => void;
}

/**
 * The way of finished chunks into the store and, as long as the window has room, on to the broker straight from memory: the
 * dispatcher would have to read them back. While one group is stored, the next one is built.
 *
 *   add ─▶ pending ──flush──▶ leaving (one group at a time) ─▶ stored ─▶ publishing
 */
export class ChunkWriter {
  readonly #run: PlanningRun;
  readonly #context: WriterContext;
  readonly #span: Span;
  readonly #signal: AbortSignal;
  readonly #publishing = new Set<Promise<void>>();
  readonly #since: Instant;
  #pending: BuiltChunk[] = [];
  #leaving: readonly BuiltChunk[] = [];
  #storing: Promise<void> = Promise.resolve();
  #flushed = 0;
  /** Chunks go to the broker without the dispatcher: until the window stays full, or the broker refused some. Never what is spooled. */
  #direct: boolean;
  #waited: Milliseconds = 0;

  constructor(run: PlanningRun, context: WriterContext, span: Span, signal: AbortSignal) {
    this.#run = run;
    this.#context = context;
    this.#span = span;
    this.#signal = signal;
    this.#direct = !run.manifest.spool;
    this.#since = context.time.now();
  }

  /** True when it is time to flush. */
  add(chunk: BuiltChunk): boolean {
    this.#pending.push(chunk);
    return this.#pending.length >= Math.min(TOGETHER, this.#flushed + 1) || chunk.payload.length > CLAIM_BYTES;
  }

  /** Lets what is pending go; `progress` is what the plan has come to with it. Waits for the group before: chunks are numbered without gaps. */
  async flush(progress: PlanProgress): Promise<true> {
    await this.#storing;
    if (this.#pending.length === 0) return true;
    this.#leaving = this.#pending;
    this.#pending = [];
    this.#flushed += this.#leaving.length;
    this.#storing = this.#store(this.#leaving, progress);
    // Whoever waits for it next is told.
    this.#storing.catch(() => undefined);
    return true;
  }

  /** Resolves when what was flushed is in the store. Rejects with LostRun when another planner has the run. */
  stored(): Promise<void> {
    return this.#storing;
  }

  /** Resolves when what was flushed has gone as far as it goes from here. */
  async over(): Promise<void> {
    await this.#storing;
    await Promise.all(this.#publishing);
  }

  /** The keys of a chunk that is still in memory. */
  keysOf(seq: number): readonly string[] | undefined {
    const chunk = [...this.#pending, ...this.#leaving].find((other) => other.seq === seq);
    return chunk && keysIn(chunk.payload);
  }

  async #store(chunks: readonly BuiltChunk[], progress: PlanProgress): Promise<void> {
    const { store, window, buffers } = this.#context;
    const sent = await store.appendChunks(this.#run, chunks, progress, this.#direct ? window : 0);
    if (sent === undefined) throw new LostRun();
    // From here on it is the store that knows their keys: others will use their memory.
    this.#leaving = [];
    if (sent > 0) {
      const publishing = this.#publish(chunks.slice(0, sent)).finally(() => this.#publishing.delete(publishing));
      this.#publishing.add(publishing);
      // Whoever waits for it next is told; planning may end before anybody does.
      publishing.catch(() => undefined);
      if (this.#publishing.size >= 2) await Promise.race(this.#publishing);
    }
    if (sent === chunks.length) return;
    for (const { payload } of chunks.slice(sent)) buffers.give(payload);
    this.#context.wakeDispatcher();
    if (this.#direct) await this.#waitForRoom();
  }

  /** For a planner that is faster than the processors. Half as long as planning itself has taken, in all: slow processors do not hold up the plan. */
  async #waitForRoom(): Promise<void> {
    const { time } = this.#context;
    const planned = time.now() - this.#since - this.#waited;
    this.#direct = this.#waited + ROOM_PAUSE <= planned / 2;
    if (!this.#direct) return;
    this.#waited += ROOM_PAUSE;
    await time.sleep(ROOM_PAUSE, this.#signal);
  }

  async #publish(chunks: readonly BuiltChunk[]): Promise<void> {
    const { work, store, time, buffers, confirmed, wakeDispatcher, spans } = this.#context;
    const run = this.#run;
    const span = spans.start({ runId: run.runId, job: run.job, chunks: chunks.length, retry: false, parent: traceOf(this.#span) });
    const sent = chunks.map(({ seq }) => ({ runId: run.runId, generation: 0, seq, attempt: 1, emits: 1 }));
    const envelopes = chunks.map(
      ({ seq, size, payload }): Envelope =>
        encodeChunk(
          { ...run, generation: 0, seq, attempt: 1, emits: 1, size, outcomes: null, payload, trace: span.trace },
          time.now(),
          buffers,
        ),
    );
    for (const { payload } of chunks) buffers.give(payload);
    try {
      await work.publish(envelopes);
      for (const { body } of envelopes) buffers.give(body);
      confirmed(sent);
      span.end();
    } catch (error) {
      span.end(error);
      // Nothing is lost: the chunks are due again, and the dispatcher knows how to mend the queue.
      this.#direct = false;
      await store.releaseChunks(sent);
      wakeDispatcher();
    }
  }
}
