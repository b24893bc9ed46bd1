import type { Trace } from '@millrace/core';
import type { FastifyRequest } from 'fastify';

/** Who asks, and what trace the wish belongs to. */
export interface Requester {
  readonly name: string;
  readonly trace: Trace;
}

export function requesterOf({ ip, headers }: Pick<FastifyRequest, 'ip' | 'headers'>): Requester {
  const { traceparent, tracestate } = headers;
  return {
    name: `http ${ip}`,
    trace: typeof traceparent === 'string' ? { traceparent, ...(typeof tracestate === 'string' ? { tracestate } : {}) } : {},
  };
}
