import {
  type Chunk,
  type ChunkSettled,
  chunkIdOf,
  chunkQueue,
  countStates,
  type Instant,
  messageOf,
  type Time,
  type Trace,
} from '@millrace/core';
import { inSeconds, parentOf, SpanBudget, startMessagingSpan, traceOf, unsampled } from '@millrace/runtime';
import { type Context, INVALID_SPAN_CONTEXT, metrics, type Span, SpanStatusCode, trace } from '@opentelemetry/api';

const tracer = trace.getTracer('@millrace/processor');
/** How often it is looked whether a chunk was its run's last. */
const LOOK_EVERY_MS = 1_000;
const ITEM_SPANS_PER_CHUNK = 10;

export type Stage = 'queue wait' | 'process' | 'commit';

/** One delivery of a chunk, as it is watched. Its spans are made when it is sure that they are kept, with the times that were noted. */
export class ChunkTrace {
  readonly chunk: Chunk;
  readonly parent: Trace;
  /** The chunk is kept for being among the first of its run. */
  readonly early: boolean;
  /** Active while user code runs. Where the chunk's span may be dropped nothing below it is recorded either. */
  readonly context: Context;
  /** Items were run: the delivery was not just answered from the inbox. */
  ran = false;
  readonly #start: (() => Span) | undefined;
  readonly #time: Time;
  readonly #stages: { readonly stage: Stage; readonly from: Instant; readonly to: Instant }[] = [];
  #span: Span | undefined;
  #kept = false;

  /** Without `start` nothing is noted. */
  constructor(chunk: Chunk, parent: Trace, early: boolean, start: (() => Span) | undefined, time: Time) {
    this.chunk = chunk;
    this.parent = parent;
    this.early = early;
    this.#start = start;
    this.#time = time;
    this.context = early ? this.#below() : parentOf(unsampled(parent));
  }

  get watched(): boolean {
    return this.#start !== undefined;
  }

  get span(): Span {
    this.#span ??= this.#start?.() ?? trace.wrapSpanContext(INVALID_SPAN_CONTEXT);
    return this.#span;
  }

  /** Begins a stage; call what it returns at its end. */
  enter(stage: Stage, from?: Instant): () => void {
    this.ran ||= stage === 'process';
    if (!this.watched) return nothing;
    const since = from ?? this.#time.now();
    return () => void this.#stages.push({ stage, from: since, to: this.#time.now() });
  }

  /** Without this nothing of the chunk is exported. */
  keep(at: Instant): void {
    if (this.#kept) return;
    this.#kept = true;
    for (const { stage, from, to } of this.#stages) tracer.startSpan(stage, { startTime: from }, this.#below()).end(to);
    this.span.end(at);
  }

  #below(): Context {
    return trace.setSpan(parentOf(this.parent), this.span);
  }
}

const nothing = () => {};

/**
 * The `chunk` spans of this process and what hangs below them. Of each run the first chunks are kept, the last, those that failed, and those
 * slower than all before; a failing item has a trace of its own, linked with its chunk's.
 */
export class ChunkTraces {
  readonly #system: string;
  readonly #time: Time;
  readonly #chunks = new SpanBudget({ first: 8, failing: 32 });
  readonly #items = new SpanBudget({ first: 0, failing: 100 });
  readonly #last = new Map<string, { readonly trace: ChunkTrace; readonly fact: ChunkSettled; readonly at: Instant }>();
  readonly #duration = metrics
    .getMeter('@millrace/processor')
    .createHistogram(
      'millrace_item_duration_seconds',
      inSeconds('Mean time of the items of a chunk, once per chunk: waiting in the queue, in process, in commit.'),
    );
  #watching = false;
  /** A span was recorded: an SDK is there, and takes what comes. */
  #recording = false;

  constructor(system: string, time: Time) {
    this.#system = system;
    this.#time = time;
  }

  begin(chunk: Chunk, parent: Trace, sentAt: Instant, deliveries: number): ChunkTrace {
    const now = this.#time.now();
    const since = sentAt > 0 ? Math.min(sentAt, now) : now;
    const early = this.#chunks.isFirst(chunk.runId);
    const start = () => this.#startSpan(chunk, parent, since, deliveries);
    const made = new ChunkTrace(chunk, parent, early, early || this.#recording ? start : undefined, this.#time);
    // Without an SDK none of the early ones is recorded, and of the others nothing is noted.
    if (early) this.#recording ||= made.span.isRecording();
    made.enter('queue wait', since)();
    return made;
  }

  #startSpan(chunk: Chunk, parent: Trace, startTime: Instant, deliveries: number): Span {
    const id = chunkIdOf(chunk.runId, chunk.generation, chunk.seq);
    return startMessagingSpan(tracer, {
      system: this.#system,
      operation: 'chunk',
      kind: 'process',
      destination: chunkQueue(chunk.job),
      parent: parentOf(parent),
      startTime,
      attributes: {
        'messaging.message.id': `${id}/${chunk.attempt}`,
        'millrace.job': chunk.job,
        'millrace.run.id': chunk.runId,
        'millrace.chunk.id': id,
        'millrace.chunk.items': chunk.items.length,
        'millrace.attempt': chunk.attempt,
        'millrace.deliveries': deliveries,
      },
    });
  }

  /** Decides whether the chunk is kept. Returns what its fact carries on. */
  settled(made: ChunkTrace, fact: ChunkSettled): Trace {
    if (made.ran) this.#measure(fact, made.chunk.items.length);
    if (!this.#recording || !made.watched) return made.parent;
    const failing = made.ran && fact.failures.length > 0;
    if (failing) this.#failingItems(made, fact);
    const slowest = made.ran && this.#chunks.isSlowest(fact.runId, fact.timing.process + fact.timing.commit);
    const now = this.#time.now();
    if (made.early || slowest || (failing && this.#chunks.isFailing(fact.runId))) {
      keepSettled(made, fact, now);
      return traceOf(made.span);
    }
    this.#last.set(fact.runId, { trace: made, fact, at: now });
    void this.#watchLast();
    return unsampled(made.parent);
  }

  /** Trouble of the surroundings: the delivery goes back. */
  gaveBack(made: ChunkTrace, error: unknown): void {
    if (!this.#recording || !made.watched || !(made.early || this.#chunks.isFailing(made.chunk.runId))) return;
    made.span.recordException(error instanceof Error ? error : messageOf(error));
    made.span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
    made.keep(this.#time.now());
  }

  /** Keeps the last chunk of every run that has come so far. */
  flush(): void {
    for (const { trace: last, fact, at } of this.#last.values()) keepSettled(last, fact, at);
    this.#last.clear();
  }

  async #watchLast(): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    while (this.#last.size > 0) {
      await this.#time.sleep(LOOK_EVERY_MS);
      for (const [runId, { trace: last, fact, at }] of this.#last) {
        if (at + this.#chunks.lastAfter(runId) > this.#time.now()) continue;
        this.#last.delete(runId);
        this.#chunks.keptAsLast(runId);
        keepSettled(last, fact, at);
      }
    }
    this.#watching = false;
  }

  #failingItems(made: ChunkTrace, { failures, settledAt, timing }: ChunkSettled): void {
    const { chunk } = made;
    for (const { key, position, fingerprint, title, message, class: kind } of failures.slice(0, ITEM_SPANS_PER_CHUNK)) {
      if (!this.#items.isFailing(chunk.runId)) return;
      const end = settledAt - timing.commit;
      const item = tracer.startSpan(`item ${chunk.job}`, {
        root: true,
        startTime: end - timing.process,
        links: [{ context: made.span.spanContext() }],
        attributes: {
          'millrace.job': chunk.job,
          'millrace.run.id': chunk.runId,
          'millrace.item.key': key,
          'millrace.item.position': position,
          'millrace.attempt': chunk.attempt,
          'millrace.failure.fingerprint': fingerprint,
          'error.type': kind,
        },
      });
      item.addEvent('exception', { 'exception.type': kind, 'exception.message': message }, end);
      item.setStatus({ code: SpanStatusCode.ERROR, message: title });
      item.end(end);
      made.span.addLink({ context: item.spanContext(), attributes: { 'millrace.item.key': key } });
    }
  }

  #measure({ job, timing }: ChunkSettled, items: number): void {
    const each = 1_000 * Math.max(1, items);
    this.#duration.record(timing.queued / 1_000, { job, stage: 'queue' });
    this.#duration.record(timing.process / each, { job, stage: 'process' });
    this.#duration.record(timing.commit / each, { job, stage: 'commit' });
  }
}

function keepSettled(made: ChunkTrace, fact: ChunkSettled, at: Instant): void {
  const { counts, open } = countStates(fact.outcomes);
  if (made.ran && fact.failures.length > 0)
    made.span.setStatus({ code: SpanStatusCode.ERROR, message: `${fact.failures.length} item(s) failed` });
  made.span.setAttributes({
    'millrace.chunk.answered_from_inbox': !made.ran,
    'millrace.items.applied': counts.applied,
    'millrace.items.skipped': counts.skipped,
    'millrace.items.failed': counts.failed + counts.rejected,
    'millrace.items.to_retry': open,
  });
  made.keep(at);
}
