import type { PlanStore, SentChunk } from './plan-store.ts';

/** Chunks that the table is told of in one statement, at most. */
const TOGETHER = 1_000;

/**
 * Chunks that the broker has confirmed. The table is told a little later, of many at once: most have settled by then and need no mark.
 * A mark that is lost costs a repetition.
 */
export class Confirmations {
  readonly #store: Pick<PlanStore, 'confirmChunks'>;
  readonly #chunks: SentChunk[] = [];

  constructor(store: Pick<PlanStore, 'confirmChunks'>) {
    this.#store = store;
  }

  readonly add = (chunks: readonly SentChunk[]): void => {
    // Not the chunks themselves: their payloads are done with.
    for (const { runId, generation, seq, attempt, emits } of chunks) this.#chunks.push({ runId, generation, seq, attempt, emits });
  };

  /** What could not be told is told the next time. */
  async flush(): Promise<void> {
    while (this.#chunks.length > 0) {
      const some = this.#chunks.splice(0, TOGETHER);
      try {
        await this.#store.confirmChunks(some);
      } catch (error) {
        this.#chunks.unshift(...some);
        throw error;
      }
    }
  }
}
