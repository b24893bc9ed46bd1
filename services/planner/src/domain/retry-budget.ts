import { countStates, type Instant } from '@millrace/core';
import { affordable, type Budget, type BudgetPolicy, earn, openBudget, spend } from './budget.ts';

/** In items: a fifth of the first attempts, ten a second at a standstill, and what a healthy run of moderate size may need at once. */
export const RETRIES: BudgetPolicy = { share: 0.2, perSecond: 10, burst: 5_000 };

/** Items of a chunk that is sent, as far as a budget counts them. */
export interface SentChunk {
  readonly job: string;
  readonly size: number;
  readonly outcomes: string | null;
}

/**
 * What the retries of each job may cost while first attempts wait: with a sink that is down, every item is retried, and without a
 * bound the run would go in circles over its first chunks. Counted in items, since a retry may carry one or all of its chunk.
 */
export class RetryBudgets {
  readonly #byJob = new Map<string, Budget>();

  sentFirst(chunks: readonly SentChunk[], now: Instant): void {
    for (const { job, size, outcomes } of chunks)
      this.#byJob.set(job, earn(RETRIES, this.#of(job, now), outcomes === null ? size : countStates(outcomes).open, now));
  }

  sentAgain(chunks: readonly SentChunk[], now: Instant): void {
    for (const { job, size, outcomes } of chunks)
      this.#byJob.set(job, spend(this.#of(job, now), outcomes === null ? size : countStates(outcomes).open));
  }

  /** Jobs that have nothing left to spend. */
  exhausted(now: Instant): readonly string[] {
    return [...this.#byJob.keys()].filter((job) => affordable(earn(RETRIES, this.#of(job, now), 0, now)) === 0);
  }

  #of(job: string, now: Instant): Budget {
    return this.#byJob.get(job) ?? openBudget(RETRIES, now);
  }
}
