import { factSubject, RunClosed, type Trace } from '@millrace/core';
import { isSampled, linksTo, parentOf, startMessagingSpan, traceOf } from '@millrace/runtime';
import { type Span, trace } from '@opentelemetry/api';

const tracer = trace.getTracer('@millrace/audit');
/** A batch may hold hundreds of facts; a span that links to all of them is no longer readable. */
const MOST_LINKS = 16;

/** A fact as far as its trace is concerned. */
export interface TracedFact {
  readonly runId: string;
  readonly job: string;
  readonly trace: Trace;
  /** It tells of a chunk, not of the run as a whole. */
  readonly ofChunk: boolean;
}

/**
 * One `settle` span for each run in a batch of facts, below the first chunk that is traced and linked with the others. Facts of chunks whose
 * span was dropped come unsampled and make none: so there are never more of these than of their causes.
 */
export function startSettleSpans(facts: readonly TracedFact[], system: string): readonly Span[] {
  const runs = new Map<string, TracedFact[]>();
  for (const fact of facts) {
    const same = runs.get(fact.runId);
    if (same) same.push(fact);
    else runs.set(fact.runId, [fact]);
  }
  return [...runs.values()].flatMap((all) => {
    const traced = all.filter((fact) => isSampled(fact.trace));
    const first = traced.find((fact) => fact.ofChunk) ?? traced[0];
    if (!first) return [];
    const rest = traced.filter((fact) => fact !== first);
    return startMessagingSpan(tracer, {
      system,
      operation: 'settle',
      kind: 'process',
      destination: 'millrace.facts',
      parent: parentOf(first.trace),
      links: linksTo(...rest.slice(0, MOST_LINKS).map((fact) => fact.trace)),
      attributes: { 'millrace.job': first.job, 'millrace.run.id': first.runId, 'messaging.batch.message_count': all.length },
    });
  });
}

/** The `close` span: the end of a run's trace, with its verdict, and the fact's context. */
export function startCloseSpan(closed: RunClosed, run: Trace, system: string): { readonly span: Span; readonly trace: Trace } {
  const span = startMessagingSpan(tracer, {
    system,
    operation: 'close',
    kind: 'send',
    destination: factSubject(RunClosed.kind, closed.job),
    parent: parentOf(run),
    attributes: {
      'millrace.job': closed.job,
      'millrace.run.id': closed.runId,
      'millrace.verdict': closed.verdict,
      'millrace.items.planned': closed.planned,
      ...Object.fromEntries(Object.entries(closed.counts).map(([outcome, count]) => [`millrace.items.${outcome}`, count])),
    },
  });
  return { span, trace: traceOf(span) };
}
