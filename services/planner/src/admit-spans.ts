import type { Trace } from '@millrace/core';
import { linksTo, parentOf, startMessagingSpan, traceOf } from '@millrace/runtime';
import { type Attributes, type Span, trace } from '@opentelemetry/api';

const tracer = trace.getTracer('@millrace/planner');

/** What asks for runs to be admitted. */
export interface AdmitCause {
  readonly job: string;
  readonly cause: 'tick' | 'trigger' | 'after' | 'redrive';
  /** The message; absent where the planner found out by itself. */
  readonly message?: { readonly system: string; readonly destination: string };
  /** The span that a run goes on from. Default: the run is the root of its trace. */
  readonly parent?: (runId: string) => Trace | undefined;
  /** Other traces that have to do with it. */
  readonly links?: readonly Trace[];
}

/**
 * The `admit` span of each run that one cause opens. Its context is stored with the run, and everything that happens to the run later,
 * in whatever process and after whatever restart, goes on from there. Spans of runs that were not opened are never ended, so never exported.
 */
export class AdmitSpans {
  readonly #cause: AdmitCause;
  readonly #spans = new Map<string, Span>();

  constructor(cause: AdmitCause) {
    this.#cause = cause;
  }

  traceOf = (runId: string): Trace => {
    const { job, cause, message, parent, links = [] } = this.#cause;
    const attributes: Attributes = { 'millrace.job': job, 'millrace.run.id': runId, 'millrace.cause': cause };
    const context = parentOf(parent?.(runId) ?? {});
    const span = message
      ? startMessagingSpan(tracer, {
          ...message,
          operation: 'admit',
          kind: 'process',
          parent: context,
          links: linksTo(...links),
          attributes,
        })
      : tracer.startSpan(`admit ${job}`, { attributes, links: linksTo(...links) }, context);
    this.#spans.set(runId, span);
    return traceOf(span);
  };

  end(opened: readonly string[]): void {
    for (const runId of opened) this.#spans.get(runId)?.end();
  }
}
