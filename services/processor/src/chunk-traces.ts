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
import { type Context, metrics, type Span, SpanStatusCode, trace } from '@opentelemetry/api';

const tracer = trace.getTracer('@millrace/processor');
/** How often it is looked whether a chunk was its run's last. */
const LOOK_EVERY_MS = 1_000;
const ITEM_SPANS_PER_CHUNK = 10;

export type Stage = 'queue wait' | 'process' | 'commit';

/** One delivery of a chunk, as it is watched. */
export class ChunkTrace {
  /** Active while user code runs. Where the chunk's span may be dropped nothing below it is recorded either. */
  readonly context: Context;
  readonly chunk: Chunk;
  readonly span: Span;
  /** The chunk is kept for being among the first of its run. */
  readonly early: boolean;
  /** Items were run: the delivery was not just answered from the inbox. */
  ran = false;
  #stages: (readonly [Span, Instant])[] = [];
  readonly #at: Context;
  #kept = false;
  readonly #time: Time;

  constructor(chunk: Chunk, span: Span, parent: Trace, early: boolean, time: Time) {
    this.chunk = chunk;
    this.span = span;
    this.early = early;
    this.#time = time;
    this.#at = trace.setSpan(parentOf(parent), span);
    this.context = early ? this.#at : parentOf(unsampled(parent));
  }

  /** Begins a stage; call what it returns at its end. */
  enter(stage: Stage, since = this.#time.now()): () => void {
    this.ran ||= stage === 'process';
    if (!this.span.isRecording()) return () => {};
    const span = tracer.startSpan(stage, { startTime: since }, this.#at);
    return () => void this.#stages.push([span, this.#time.now()]);
  }

  /** Without this nothing of the chunk is exported. */
  keep(at: Instant): void {
    if (this.#kept) return;
    this.#kept = true;
    for (const [span, end] of this.#stages) span.end(end);
    this.span.end(at);
    this.#stages = [];
  }
}

/**
 * The `chunk` spans of this process and what hangs below them. Of each run the first chunks are kept, the last, those that failed, and those
 * slower than all before; a failing item has a trace of its own, linked with its chunk's. A span that is not ended costs nothing.
 */
export class ChunkTraces {
  readonly #system: string;
  readonly #time: Time;
  readonly #chunks = new SpanBudget({ first: 8, failing: 32 });
  readonly #items = new SpanBudget({ first: 0, failing: 100 });
  readonly #last = new Map<string, { readonly trace: ChunkTrace; readonly at: Instant }>();
  readonly #duration = metrics
    .getMeter('@millrace/processor')
    .createHistogram(
      'millrace_item_duration_seconds',
      inSeconds('Mean time of the items of a chunk, once per chunk: waiting in the queue, in process, in commit.'),
    );
  #watching = false;

  constructor(system: string, time: Time) {
    this.#system = system;
    this.#time = time;
  }

  begin(chunk: Chunk, parent: Trace, sentAt: Instant, deliveries: number): ChunkTrace {
    const now = this.#time.now();
    const since = sentAt > 0 ? Math.min(sentAt, now) : now;
    const id = chunkIdOf(chunk.runId, chunk.generation, chunk.seq);
    const span = startMessagingSpan(tracer, {
      system: this.#system,
      operation: 'chunk',
      kind: 'process',
      destination: chunkQueue(chunk.job),
      parent: parentOf(parent),
      startTime: since,
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
    const made = new ChunkTrace(chunk, span, parent, span.isRecording() && this.#chunks.isFirst(chunk.runId), this.#time);
    made.enter('queue wait', since)();
    return made;
  }

  /** Decides whether the chunk is kept. Returns what its fact carries on. */
  settled(made: ChunkTrace, fact: ChunkSettled): Trace {
    if (made.ran) this.#measure(fact, made.chunk.items.length);
    const { span } = made;
    if (!span.isRecording()) return traceOf(span);
    const { counts, open } = countStates(fact.outcomes);
    span.setAttributes({
      'millrace.chunk.answered_from_inbox': !made.ran,
      'millrace.items.applied': counts.applied,
      'millrace.items.skipped': counts.skipped,
      'millrace.items.failed': counts.failed + counts.rejected,
      'millrace.items.to_retry': open,
    });
    const failing = made.ran && fact.failures.length > 0;
    if (failing) this.#failingItems(made, fact);
    const slowest = made.ran && this.#chunks.isSlowest(fact.runId, fact.timing.process + fact.timing.commit);
    const now = this.#time.now();
    if (made.early || slowest || (failing && this.#chunks.isFailing(fact.runId))) {
      made.keep(now);
      return traceOf(span);
    }
    this.#last.set(fact.runId, { trace: made, at: now });
    void this.#watchLast();
    return unsampled(traceOf(span));
  }

  /** Trouble of the surroundings: the delivery goes back. */
  gaveBack(made: ChunkTrace, error: unknown): void {
    if (!made.span.isRecording() || !(made.early || this.#chunks.isFailing(made.chunk.runId))) return;
    made.span.recordException(error instanceof Error ? error : messageOf(error));
    made.span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
    made.keep(this.#time.now());
  }

  /** Keeps the last chunk of every run that has come so far. */
  flush(): void {
    for (const { trace: last, at } of this.#last.values()) last.keep(at);
    this.#last.clear();
  }

  async #watchLast(): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    while (this.#last.size > 0) {
      await this.#time.sleep(LOOK_EVERY_MS);
      for (const [runId, { trace: last, at }] of this.#last) {
        if (at + this.#chunks.lastAfter(runId) > this.#time.now()) continue;
        this.#last.delete(runId);
        this.#chunks.keptAsLast(runId);
        last.keep(at);
      }
    }
    this.#watching = false;
  }

  #failingItems({ span, chunk }: ChunkTrace, { failures, settledAt, timing }: ChunkSettled): void {
    span.setStatus({ code: SpanStatusCode.ERROR, message: `${failures.length} item(s) failed` });
    for (const { key, position, fingerprint, title, message, class: kind } of failures.slice(0, ITEM_SPANS_PER_CHUNK)) {
      if (!this.#items.isFailing(chunk.runId)) return;
      const end = settledAt - timing.commit;
      const item = tracer.startSpan(`item ${chunk.job}`, {
        root: true,
        startTime: end - timing.process,
        links: [{ context: span.spanContext() }],
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
      span.addLink({ context: item.spanContext(), attributes: { 'millrace.item.key': key } });
    }
  }

  #measure({ job, timing }: ChunkSettled, items: number): void {
    const each = 1_000 * Math.max(1, items);
    this.#duration.record(timing.queued / 1_000, { job, stage: 'queue' });
    this.#duration.record(timing.process / each, { job, stage: 'process' });
    this.#duration.record(timing.commit / each, { job, stage: 'commit' });
  }
}
