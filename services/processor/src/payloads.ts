import type { Chunk } from '@millrace/core';

/** Where the items of a chunk lie that are too big to travel with it. */
export interface Payloads {
  /** All items of the chunk, whatever positions the message names; undefined when they are gone. */
  load(chunk: Chunk): Promise<Chunk['items'] | undefined>;
}
