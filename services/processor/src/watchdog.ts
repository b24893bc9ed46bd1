import type { Chunk } from '@millrace/core';
import type { ItemWatch } from './run-items.ts';

/** Ends this process when its logic keeps the event loop for so long that nobody else can: its chunks are then delivered again, and isolated. */
export interface Watchdog {
  watch(chunk: Chunk): ItemWatch;
  close(): Promise<void>;
}

export const unwatched: ItemWatch = { entering: () => undefined, left: () => undefined, ended: () => undefined };
