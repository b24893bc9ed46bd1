import type { Milliseconds } from '@millrace/core';

/** Settled chunks that come in numbers are folded this far apart. */
export const SETTLE_EVERY: Milliseconds = 160;
/** Or as soon as they are this part of the window of a run, which must not run dry. */
const PART = 1 / 8;
/** How long whoever waits for room in a full window gives it: by then settled chunks have been folded. */
export const ROOM_PAUSE: Milliseconds = 1.25 * SETTLE_EVERY;

/** Whether so many settled chunks are to be folded at once. */
export function enoughSettled(chunks: number, window: number): boolean {
  return chunks >= window * PART;
}
