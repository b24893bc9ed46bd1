import type { Milliseconds } from './time.ts';

/** What a handler says of a delivery. Only adapters know ack, nack and dead letters. */
export type Verdict =
  | { readonly kind: 'done' }
  | { readonly kind: 'retry'; readonly after: Milliseconds; readonly reason: string }
  | { readonly kind: 'park'; readonly reason: string };

export const done: Verdict = { kind: 'done' };
export function retry(after: Milliseconds, reason: string): Verdict {
  return { kind: 'retry', after, reason };
}
/** Set aside with its reason, for a person to look at. Nothing ever deletes a parked message silently. */
export function park(reason: string): Verdict {
  return { kind: 'park', reason };
}
