import { expect, test } from '@jest/globals';
import { trace } from '@opentelemetry/api';
import { wantsTracing } from './start-tracing.ts';
import { isSampled, linksTo, parentOf, spanContextOf, traceOf, unsampled } from './trace-context.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';
const headers = { traceparent: `00-${traceId}-${spanId}-01`, tracestate: 'vendor=x' };

test('headers name a span, and carry it on unchanged where nothing records', () => {
  expect(spanContextOf(headers)).toMatchObject({ traceId, spanId, traceFlags: 1, isRemote: true });
  const passedOn = trace.getTracer('no sdk').startSpan('x', {}, parentOf(headers));
  expect(traceOf(passedOn)).toEqual(headers);
  expect(linksTo(headers, {})).toHaveLength(1);
});

test('what can be dropped keeps its place in the trace, but nobody records below it', () => {
  expect(isSampled(headers)).toBe(true);
  expect(isSampled(unsampled(headers))).toBe(false);
  expect(spanContextOf(unsampled(headers))).toMatchObject({ traceId, spanId });
  expect(unsampled({})).toEqual({});
});

test.each([
  '',
  'x',
  `00-${traceId}-${spanId}`,
  `00-${'0'.repeat(32)}-${spanId}-01`,
  `00-${traceId}-${'0'.repeat(16)}-01`,
  `ff-${traceId}-${spanId}-01`,
  `00-${traceId.toUpperCase()}-${spanId}-01`,
  `00-${traceId}-${spanId}-01\r\nx: y`,
])('a malformed traceparent %j is no parent', (traceparent) => {
  expect(spanContextOf({ traceparent })).toBeUndefined();
  expect(traceOf(trace.getTracer('no sdk').startSpan('x', {}, parentOf({ traceparent })))).toEqual({});
});

test.each([
  [{}, false],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4318' }, true],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://localhost:4318/v1/traces' }, true],
  [{ OTEL_TRACES_EXPORTER: 'console' }, true],
  [{ OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4318' }, false],
  [{ OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://localhost:4318' }, false],
])('%j asks for traces: %s', (env, wanted) => {
  expect(wantsTracing(env)).toBe(wanted);
});
