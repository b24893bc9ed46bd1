import {
  codeOf,
  type Envelope,
  type Instant,
  keysIn,
  type Milliseconds,
  MillraceError,
  messageOf,
  noCounts,
  type Time,
} from '@millrace/core';
import type { Publisher } from '@millrace/messaging';
import { parentOf, traceOf } from '@millrace/runtime';
import { context as activeContext, type Span, SpanStatusCode, trace } from '@opentelemetry/api';
import { checkpoint, type ItemsContext, isCheckpoint, type Job } from 'millrace';
import { encodeChunk } from './chunk-message.ts';
import type { DispatchSpans } from './dispatch-spans.ts';
import { type BuiltChunk, ChunkBuilder, CLAIM_BYTES, checkKey } from './domain/chunk-builder.ts';
import { LostRun, untilAborted } from './lease.ts';
import { factEnvelope } from './owed-facts.ts';
import type { OwedFact, PlanningRun, PlanProgress, PlanStore, SentChunk } from './plan-store.ts';
import { PlannedKeys, type Sighting } from './planned-keys.ts';

/** Chunks stored in one statement, at most; the first ones go out sooner. */
const FLUSH_CHUNKS = 8;
/** A slow source's items do not wait longer than this for company. */
const LINGER = 500;
/** A source that fails is asked again this often before the plan counts as failed. */
const PLAN_ATTEMPTS = 3;
/** A plan that takes longer is told of before it is sealed. Until then the first chunk goes first. */
const QUICK = 20;
/** For how long a planner that is faster than the processors waits for room in the window, time and again: longer than settled chunks gather. */
const ROOM_PAUSE = 100;
/** Before planning goes on after a failure of the infrastructure. */
const PAUSE = 2_000;

const tracer = trace.getTracer('@millrace/planner');

export interface PlanContext {
  readonly store: PlanStore;
  readonly events: Publisher;
  readonly work: Publisher;
  readonly time: Time;
  /** What a job's `items` may read: the default database. */
  readonly query: ItemsContext['query'];
  /** Chunks of one run that may be in the broker at once. */
  readonly window: number;
  readonly spans: DispatchSpans;
  /** Told of what the broker has confirmed. */
  readonly confirmed: (chunks: readonly SentChunk[]) => void;
  /** Items per chunk, at most. */
  readonly chunkItems: () => number;
  /** Bytes per item, at most. */
  readonly largestItem: number;
  /** Called when chunks could not go out at once, so that the dispatcher takes them. */
  readonly wakeDispatcher: () => void;
}

/**
 * Streams the items of a run into chunks, resumable at any point: what is stored is stored once, whoever plans.
 * Returns what happened; `lost` means that another planner has the run.
 */
export async function planRun(run: PlanningRun, job: Job, context: PlanContext, signal: AbortSignal): Promise<PlanResult> {
  const parent = parentOf(run.trace);
  const span = tracer.startSpan(`plan ${job.name}`, { attributes: { 'millrace.job': job.name, 'millrace.run.id': run.runId } }, parent);
  const result = await activeContext.with(trace.setSpan(parent, span), () => planTraced(run, job, context, signal, span));
  span.setAttribute('millrace.plan.result', result);
  span.end();
  return result;
}

type PlanResult = 'sealed' | 'failed' | 'postponed' | 'lost';

async function planTraced(claimed: PlanningRun, job: Job, context: PlanContext, signal: AbortSignal, span: Span): Promise<PlanResult> {
  const { store } = context;
  let run = claimed;
  if (run.manifest.spool && run.nextSeq > 0) {
    if (!(await store.discardPlan(run))) return 'lost';
    run = { ...run, cursor: undefined, nextSeq: 0, items: 0, duplicates: 0 };
  }
  const planning = new Planning(run, job, context, span, signal);
  try {
    const over = new AbortController();
    void tellOpened(run, context, AbortSignal.any([signal, over.signal]));
    await untilAborted(planning.run(), signal).finally(() => over.abort());
  } catch (error) {
    if (error instanceof LostRun || signal.reason instanceof LostRun) return 'lost';
    if (signal.aborted) {
      await store.postponePlanning(run, 0);
      return 'postponed';
    }
    span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
    const code = codeOf(error);
    const ours = code?.startsWith('MR3') === true;
    if (ours || (code === undefined && run.failures + 1 < PLAN_ATTEMPTS)) {
      await store.postponePlanning(run, ours ? PAUSE : 1_000 * 2 ** run.failures, !ours);
      return 'postponed';
    }
    const failure = code
      ? { code, message: messageOf(error) }
      : { code: 'MR1012', message: new MillraceError('MR1012', `job "${job.name}": ${messageOf(error)}`).message };
    return (await planning.fail(failure)) ? 'failed' : 'lost';
  }
  return (await planning.seal()) ? 'sealed' : 'lost';
}

/** The last checkpoint, and how far the plan was then: what is stored beyond it will be yielded again, and is no duplicate. */
interface Mark {
  readonly cursor: unknown;
  readonly items: number;
  readonly duplicates: number;
}

class Planning {
  readonly #run: PlanningRun;
  readonly #job: Job;
  readonly #context: PlanContext;
  readonly #span: Span;
  readonly #signal: AbortSignal;
  readonly #builder: ChunkBuilder;
  readonly #keys: PlannedKeys;
  readonly #publishing = new Set<Promise<void>>();
  #pending: BuiltChunk[] = [];
  /** Chunks on their way into the table while the next ones are built, and the end of that way. */
  #leaving: readonly BuiltChunk[] = [];
  #storing: Promise<void> = Promise.resolve();
  #index = 0;
  #flushed = 0;
  #bufferedSince = 0;
  #mark: Mark | undefined;
  #items: number;
  #duplicates: number;
  /** Chunks go to the broker without the dispatcher: until the window stays full, or the broker refused some. Never what is spooled. */
  #direct: boolean;
  readonly #since: Instant;
  #waited: Milliseconds = 0;

  constructor(run: PlanningRun, job: Job, context: PlanContext, span: Span, signal: AbortSignal) {
    this.#span = span;
    this.#signal = signal;
    this.#run = run;
    this.#job = job;
    this.#context = context;
    this.#builder = new ChunkBuilder(job.name, run.nextSeq, context.chunkItems, context.largestItem);
    this.#mark = run.cursor as Mark | undefined;
    this.#items = run.items;
    this.#direct = !run.manifest.spool;
    this.#since = context.time.now();
    // What the source repeated after the mark, it will repeat again.
    this.#duplicates = this.#mark?.duplicates ?? 0;
    this.#keys = new PlannedKeys({
      stored: (fromSeq, chunks) => context.store.storedKeys(run.runId, fromSeq, chunks),
      inMemory: (seq) => this.#keysInMemory(seq),
      unfinished: () => this.#builder.seq,
      settled: () => this.#storing,
    });
  }

  async run(): Promise<void> {
    const signal = this.#signal;
    if (this.#run.nextSeq > 0) await this.#keys.recall(this.#mark?.items ?? 0);
    const { query } = this.#context;
    const source = this.#job.items({
      tick: { id: this.#run.tick, at: new Date(this.#run.nominal ?? this.#run.openedAt) },
      params: this.#run.params,
      cursor: this.#mark?.cursor,
      checkpoint,
      query,
      signal,
    });
    // A source that is not asynchronous is not made so: promises per item would cost as much as the rest of planning.
    if (Symbol.iterator in source) {
      for (const item of source) {
        const going = this.#take(item, signal);
        if (going !== true && !(await going)) break;
      }
    } else {
      for await (const item of source) {
        const going = this.#take(item, signal);
        if (going !== true && !(await going)) break;
      }
    }
    this.#cut();
    await this.#flush();
    await this.#stored();
  }

  /** False when the run has as many items as it was asked for. */
  #take(item: unknown, signal: AbortSignal): boolean | Promise<boolean> {
    if (signal.aborted) throw signal.reason;
    if (isCheckpoint(item)) {
      // What is spooled is always planned from the start.
      if (!this.#run.manifest.spool) this.#mark = { cursor: item.cursor, items: this.#items, duplicates: this.#duplicates };
      return true;
    }
    if (this.#run.limit !== undefined && this.#items >= this.#run.limit) return false;
    const key: unknown = this.#job.key(item);
    checkKey(key, this.#job.name, this.#index++);
    const sighting = this.#keys.sight(key, this.#builder.seq);
    return typeof sighting === 'string' ? this.#sighted(sighting, key, item) : sighting.then((late) => this.#sighted(late, key, item));
  }

  #sighted(sighting: Sighting, key: string | number, item: unknown): true | Promise<true> {
    if (sighting === 'new') return this.#add(key, item);
    if (sighting === 'duplicate') this.#duplicates++;
    return true;
  }

  #add(key: string | number, item: unknown): true | Promise<true> {
    const { time } = this.#context;
    if (this.#builder.size === 0) this.#bufferedSince = time.now();
    const chunk = this.#builder.add(key, item);
    this.#items++;
    if (chunk) {
      this.#pending.push(chunk);
      if (this.#pending.length >= Math.min(FLUSH_CHUNKS, this.#flushed + 1) || chunk.payload.length > CLAIM_BYTES) return this.#flush();
    } else if ((this.#index & 63) === 0 && time.now() - this.#bufferedSince > LINGER) {
      this.#cut();
      return this.#flush();
    }
    return true;
  }

  async seal(): Promise<boolean> {
    const { chunks, items, duplicates } = this.#totals();
    this.#span.setAttributes({ 'millrace.plan.chunks': chunks, 'millrace.plan.items': items, 'millrace.plan.duplicates': duplicates });
    const planned: OwedFact = {
      kind: 'run.planned',
      data: { ...this.#totals(), plannedAt: this.#context.time.now(), replaced: noCounts() },
    };
    return this.#context.store.seal(this.#run, [openedFact(this.#run), planned], this.#duplicates);
  }

  /** What is stored stays planned and is worked off, unless it is spooled; the run ends as failed and says how far it came. */
  async fail(failure: { code: string; message: string }): Promise<boolean> {
    let totals = this.#totals();
    try {
      if (this.#run.manifest.spool) {
        // What is on its way into the table must have arrived, or it would come after the rest has gone.
        await this.#stored();
        if (!(await this.#context.store.discardPlan(this.#run))) return false;
        this.#duplicates = 0;
        totals = { ...totals, chunks: 0, items: 0, duplicates: 0 };
      } else {
        this.#cut();
        await this.#flush();
        await this.#stored();
        totals = this.#totals();
      }
    } catch (error) {
      if (error instanceof LostRun) return false;
      throw error;
    }
    const failed: OwedFact = { kind: 'run.plan_failed', data: { ...totals, failedAt: this.#context.time.now(), ...failure } };
    return this.#context.store.seal(this.#run, [openedFact(this.#run), failed], this.#duplicates, failure);
  }

  #totals() {
    return {
      runId: this.#run.runId,
      job: this.#job.name,
      generation: 0,
      chunks: this.#builder.seq,
      items: this.#items,
      duplicates: this.#duplicates,
    };
  }

  #keysInMemory(seq: number): readonly string[] | undefined {
    if (seq === this.#builder.seq) return this.#builder.openKeys;
    const chunk = [...this.#pending, ...this.#leaving].find((other) => other.seq === seq);
    return chunk && keysIn(chunk.payload);
  }

  #cut(): void {
    const chunk = this.#builder.cut();
    if (chunk) this.#pending.push(chunk);
  }

  /** Lets what is pending go while the next chunks are built. One store at a time: chunks are numbered without gaps. */
  async #flush(): Promise<true> {
    await this.#storing;
    if (this.#pending.length === 0) return true;
    this.#leaving = this.#pending;
    this.#pending = [];
    this.#flushed += this.#leaving.length;
    this.#storing = this.#store(this.#leaving, {
      cursor: this.#mark,
      items: this.#items - this.#builder.size,
      duplicates: this.#duplicates,
    });
    // Whoever waits for it next is told.
    this.#storing.catch(() => undefined);
    return true;
  }

  /** As long as the window has room, chunks go to the broker straight from memory; the dispatcher would have to read them back. */
  async #store(chunks: readonly BuiltChunk[], progress: PlanProgress): Promise<void> {
    const { store, window } = this.#context;
    const sent = await store.appendChunks(this.#run, chunks, progress, this.#direct ? window : 0);
    if (sent === undefined) throw new LostRun();
    if (sent > 0) {
      const publishing = this.#publish(chunks.slice(0, sent)).finally(() => this.#publishing.delete(publishing));
      this.#publishing.add(publishing);
      // Whoever waits for it next is told; planning may end before anybody does.
      publishing.catch(() => undefined);
      if (this.#publishing.size >= 2) await Promise.race(this.#publishing);
    }
    if (sent === chunks.length) return;
    this.#context.wakeDispatcher();
    if (this.#direct) await this.#waitForRoom();
  }

  /** Half as long as planning itself has taken, in all: slow processors do not hold up the plan. */
  async #waitForRoom(): Promise<void> {
    const { time } = this.#context;
    const planned = time.now() - this.#since - this.#waited;
    this.#direct = this.#waited + ROOM_PAUSE <= planned / 2;
    if (!this.#direct) return;
    this.#waited += ROOM_PAUSE;
    await time.sleep(ROOM_PAUSE, this.#signal);
  }

  async #stored(): Promise<void> {
    await this.#storing;
    await Promise.all(this.#publishing);
  }

  async #publish(chunks: readonly BuiltChunk[]): Promise<void> {
    const { work, store, time, confirmed, wakeDispatcher } = this.#context;
    const run = this.#run;
    const span = this.#context.spans.start({
      runId: run.runId,
      job: run.job,
      chunks: chunks.length,
      retry: false,
      parent: traceOf(this.#span),
    });
    const sent = chunks.map(({ seq }) => ({ runId: run.runId, generation: 0, seq, attempt: 1, emits: 1 }));
    const envelopes: Envelope[] = chunks.map(({ size, payload }, i) =>
      encodeChunk({ ...run, ...(sent[i] as SentChunk), size, outcomes: null, payload, trace: span.trace }, time.now()),
    );
    try {
      await work.publish(envelopes);
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

/** Never rejects: the seal owes the same fact, and `signal` aborts when planning is over. */
async function tellOpened(run: PlanningRun, { events, time }: PlanContext, signal: AbortSignal): Promise<void> {
  await time.sleep(QUICK, signal);
  if (signal.aborted) return;
  await events.publish([factEnvelope(openedFact(run), time.now(), run.trace)], { signal }).catch(() => undefined);
}

function openedFact(run: PlanningRun): OwedFact {
  return {
    kind: 'run.opened',
    data: {
      runId: run.runId,
      job: run.job,
      generation: 0,
      tick: run.tick,
      nominal: run.nominal,
      cause: run.cause,
      openedAt: run.openedAt,
      manifest: run.manifest.run,
      params: run.params,
    },
  };
}
