import { type Chunk, type Instant, MillraceError, type Time } from '@millrace/core';
import type { Job } from 'millrace';
import { classifyError } from './domain/classify-error.ts';
import { fail, noResults, putResult, type Results } from './domain/results.ts';
import type { IsolatedEnd, Isolation } from './isolation.ts';
import type { Slots } from './slots.ts';

export interface IsolateItems {
  readonly isolation: Isolation;
  readonly job: Job;
  readonly chunk: Chunk;
  readonly todo: readonly number[];
  readonly slots: Slots;
  readonly time: Time;
  readonly until: Instant;
  readonly signal: AbortSignal;
}

/**
 * Runs items that may end their process. A count of deliveries condemns nobody, since brokers count restarts and returned
 * messages as well; only evidence does: an item is poisonous when a process died twice while nothing else was under way,
 * the second time in a fresh process that had run nothing before.
 *
 *   together ──died──▶ what was under way is suspect, the rest goes on together in a new process
 *                └─ several suspects ──▶ one at a time ──died──┐
 *                └─ just one ─────────────────────────────────▶ alone in a fresh process ──died──▶ poisonous: rejected
 *
 * The fresh process clears whoever merely stood beside: the victim of a leak, or of a timer that another item left.
 * Every death moves items from "together" to "suspect" or from "suspect" to "poisonous", so the search ends.
 */
export async function isolateItems({ isolation, job, chunk, todo, slots, time, until, signal }: IsolateItems): Promise<Results> {
  const results = noResults(todo, chunk.items.length);
  const open = () => !signal.aborted && time.now() < until;
  const run = async (indexes: readonly number[], concurrency: number, fresh: boolean): Promise<IsolatedEnd> => {
    const end = await isolation.run({ job, chunk, todo: indexes, concurrency, fresh, budget: Math.max(0, until - time.now()), signal });
    for (const [index, result] of end.results) putResult(results, index, result);
    return end;
  };
  const concurrency = Math.min(job.manifest.concurrency, todo.length);
  await slots.takeAll(concurrency);
  try {
    let together = todo;
    const suspects: number[] = [];
    const accused: number[] = [];
    while (together.length > 0 && open()) {
      const { death, underWay } = await run(together, concurrency, false);
      together = together.filter((index) => results.states[index] === undefined);
      if (death === undefined) break;
      // Nothing was under way: some item has left something behind, and nobody knows which.
      const near = underWay.length > 0 ? underWay : together;
      (underWay.length === 1 ? accused : suspects).push(...near);
      together = together.filter((index) => !near.includes(index));
    }
    for (const index of suspects) if (open() && (await run([index], 1, false)).death !== undefined) accused.push(index);
    for (const index of accused) {
      if (!open()) break;
      const { death } = await run([index], 1, true);
      if (death === undefined || results.states[index] !== undefined) continue;
      const blame = classifyError(new MillraceError('MR1016', death), 'poisoned');
      fail(results, index, blame, chunk.attempt, job.manifest.retry.attempts);
    }
  } finally {
    for (let i = 0; i < concurrency; i++) slots.give();
  }
  return results;
}
