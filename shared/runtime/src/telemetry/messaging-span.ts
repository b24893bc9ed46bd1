import { type Attributes, type Context, type Link, type Span, SpanKind, type TimeInput, type Tracer } from '@opentelemetry/api';

export interface MessagingSpan {
  /** `rabbitmq`, `nats`, or `memory` in embedded mode. */
  readonly system: string;
  /** What is done, in our own words: the span is called `<operation> <destination>`. */
  readonly operation: string;
  readonly kind: 'send' | 'process';
  /** Queue or subject without what differs from message to message. */
  readonly destination: string;
  readonly parent: Context;
  readonly links?: Link[];
  readonly startTime?: TimeInput;
  readonly attributes?: Attributes;
}

/**
 * A span by the messaging conventions of OpenTelemetry: kind PRODUCER for what is sent, CONSUMER for what is processed.
 * Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
 */
export function startMessagingSpan(tracer: Tracer, span: MessagingSpan): Span {
  return tracer.startSpan(
    `${span.operation} ${span.destination}`,
    {
      kind: span.kind === 'send' ? SpanKind.PRODUCER : SpanKind.CONSUMER,
      ...(span.links ? { links: span.links } : {}),
      ...(span.startTime === undefined ? {} : { startTime: span.startTime }),
      attributes: {
        'messaging.system': span.system,
        'messaging.operation.name': span.operation,
        'messaging.operation.type': span.kind,
        'messaging.destination.name': span.destination,
        ...span.attributes,
      },
    },
    span.parent,
  );
}
