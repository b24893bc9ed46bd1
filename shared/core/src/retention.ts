import type { Milliseconds } from './time.ts';

const DAY: Milliseconds = 86_400_000;

/**
 * How old a run may be for its items to be tried again, when inboxes are kept for `inboxRetention` (0: for ever). Processors refuse work a
 * day before that age, as effects could be applied twice once the inbox is gone; half a day more is left for the work itself.
 */
export function redrivableFor(inboxRetention: Milliseconds): Milliseconds {
  return inboxRetention === 0 ? Number.POSITIVE_INFINITY : inboxRetention - 1.5 * Math.min(DAY, inboxRetention / 2);
}
