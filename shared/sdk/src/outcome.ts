import type { Milliseconds } from '@millrace/core';

/**
 * What `process` and `items` may return besides data. Marked by registered symbols, so that they are recognised
 * whichever copy of this package made them.
 */
const SKIP = Symbol.for('millrace.skip');
const REJECT = Symbol.for('millrace.reject');
const CHECKPOINT = Symbol.for('millrace.checkpoint');

/** The item needs nothing done. It counts as done well. */
export interface Skip {
  readonly [SKIP]: true;
  readonly reason: string;
}

/** The item can never succeed: it is not tried again. An error, so that it can be thrown from any depth. */
export interface Reject extends Error {
  readonly [REJECT]: true;
  readonly reason: string;
}

/** A place in the item source from which a restarted plan can go on. */
export interface Checkpoint {
  readonly [CHECKPOINT]: true;
  /** JSON. */
  readonly cursor: unknown;
}

export function skip(reason: string): Skip {
  return { [SKIP]: true, reason: String(reason) };
}

export function reject(reason: string): Reject {
  return new Rejection(String(reason));
}

export function checkpoint(cursor: unknown): Checkpoint {
  return { [CHECKPOINT]: true, cursor };
}

export function isSkip(value: unknown): value is Skip {
  return typeof value === 'object' && value !== null && SKIP in value;
}

export function isReject(value: unknown): value is Reject {
  return typeof value === 'object' && value !== null && REJECT in value;
}

export function isCheckpoint(value: unknown): value is Checkpoint {
  return typeof value === 'object' && value !== null && CHECKPOINT in value;
}

class Rejection extends Error implements Reject {
  override readonly name = 'Reject';
  readonly [REJECT] = true as const;
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.reason = reason;
  }
}

/** Another try may help. Any error that carries no hint is treated the same; this one can say how long to wait. */
export class TransientError extends Error {
  override readonly name = 'TransientError';
  readonly transient = true;
  /** The retry waits at least this long. */
  readonly retryAfter?: Milliseconds;

  constructor(message: string, options: { readonly retryAfter?: Milliseconds; readonly cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    if (options.retryAfter !== undefined) this.retryAfter = options.retryAfter;
  }
}

/** No further try can help: the item fails at once. To say that the item itself is bad, use `reject(reason)`. */
export class PermanentError extends Error {
  override readonly name = 'PermanentError';
  readonly transient = false;
}
