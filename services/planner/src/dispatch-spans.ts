import { chunkQueue, messageOf, type Trace } from '@millrace/core';
import { parentOf, SpanBudget, startMessagingSpan, traceOf } from '@millrace/runtime';
import { SpanStatusCode, trace } from '@opentelemetry/api';

const tracer = trace.getTracer('@millrace/planner');

/** Chunks of one run that are published together. */
export interface Dispatch {
  readonly runId: string;
  readonly job: string;
  readonly chunks: number;
  /** Not the first attempt of its items. */
  readonly retry: boolean;
  readonly parent: Trace;
}

export interface DispatchSpan {
  /** What the messages carry. */
  readonly trace: Trace;
  end(error?: unknown): void;
}

/** The `dispatch` spans of this process: a run's first ones, and a bounded number of retries. */
export class DispatchSpans {
  readonly #system: string;
  readonly #budget = new SpanBudget({ first: 16, failing: 32 });

  constructor(system: string) {
    this.#system = system;
  }

  start({ runId, job, chunks, retry, parent }: Dispatch): DispatchSpan {
    const kept = retry ? this.#budget.isFailing(runId) : this.#budget.isFirst(runId);
    if (!kept) return { trace: parent, end: () => {} };
    const span = startMessagingSpan(tracer, {
      system: this.#system,
      operation: 'dispatch',
      kind: 'send',
      destination: chunkQueue(job),
      parent: parentOf(parent),
      attributes: {
        'messaging.batch.message_count': chunks,
        'millrace.job': job,
        'millrace.run.id': runId,
        'millrace.retry': retry,
      },
    });
    return {
      trace: traceOf(span),
      end: (error) => {
        if (error !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
        span.end();
      },
    };
  }
}
