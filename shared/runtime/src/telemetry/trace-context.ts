import type { Trace } from '@millrace/core';
import {
  type Context,
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  TraceFlags,
  trace,
} from '@opentelemetry/api';

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

/** The W3C headers that carry a span on in messages and rows; {} where there is none. */
export function traceOf(span: Span): Trace {
  const { traceId, spanId, traceFlags, traceState } = span.spanContext();
  if (!isSpanContextValid(span.spanContext())) return {};
  const state = traceState?.serialize();
  return { traceparent: `00-${traceId}-${spanId}-0${traceFlags & TraceFlags.SAMPLED}`, ...(state ? { tracestate: state } : {}) };
}

/** The span that the headers name, or undefined: what came from outside may be anything. */
export function spanContextOf({ traceparent, tracestate }: Trace): SpanContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? '') ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  const context: SpanContext = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED,
    isRemote: true,
    ...(tracestate ? { traceState: createTraceState(tracestate) } : {}),
  };
  return isSpanContextValid(context) ? context : undefined;
}

/** The context in which a child of the named span starts; without one, a root. */
export function parentOf(headers: Trace): Context {
  const parent = spanContextOf(headers);
  return parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
}

/** Links to the spans that the headers name. */
export function linksTo(...headers: readonly Trace[]): { context: SpanContext }[] {
  return headers.flatMap((each) => {
    const context = spanContextOf(each);
    return context ? [{ context }] : [];
  });
}

/** The same place in the same trace, but whoever goes on from it records nothing. */
export function unsampled(headers: Trace): Trace {
  const { traceparent } = headers;
  return traceparent === undefined ? headers : { ...headers, traceparent: `${traceparent.slice(0, -2)}00` };
}

export function isSampled(headers: Trace): boolean {
  return ((spanContextOf(headers)?.traceFlags ?? 0) & TraceFlags.SAMPLED) !== 0;
}
