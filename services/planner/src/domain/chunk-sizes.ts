import type { Milliseconds } from '@millrace/core';

/** Work that one message should hold: long beside what a message costs, short beside what waits when its processor dies. */
const AIM: Milliseconds = 100;
/** How much the newest chunk counts. */
const WEIGHT = 0.2;

/** How many items a chunk of each job should hold, learned from how long its chunks have taken. */
export class ChunkSizes {
  readonly #perItem = new Map<string, Milliseconds>();

  learn(job: string, items: number, process: Milliseconds): void {
    const latest = process / Math.max(1, items);
    const before = this.#perItem.get(job) ?? latest;
    this.#perItem.set(job, before + (latest - before) * WEIGHT);
  }

  /**
   * At most `most`, which is also the answer for a job of which nothing is known. At least half of what the job lets run at once: a
   * processor holds four chunks, and items that wait for something must not be too few to fill its slots.
   */
  itemsFor(job: string, concurrency: number, most: number): number {
    const perItem = this.#perItem.get(job) ?? 0;
    const least = Math.ceil(concurrency / 2);
    return Math.min(most, Math.max(1, least, perItem > 0 ? Math.round(AIM / perItem) : most));
  }
}
