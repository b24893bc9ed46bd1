import type { ChunkSettled, Counts, Instant, Milliseconds, RunClosed, RunOpened, RunPlanFailed, RunPlanned, Trace } from '@millrace/core';

export interface FactBatch {
  /** `trace` is the context of the run. */
  readonly opened: readonly (RunOpened & { readonly trace: Trace })[];
  readonly planned: readonly RunPlanned[];
  readonly planFailed: readonly RunPlanFailed[];
  readonly settled: readonly ChunkSettled[];
}

export interface Fold {
  /** Final outcomes that the books gained, by job. */
  readonly gained: ReadonlyMap<string, Counts>;
  /**
   * Chunks, about, that a sealed run of the batch still waits for: of the one that waits for the fewest. 0 when one has closed, or the batch
   * tells of no run; Infinity when none is sealed.
   */
  readonly awaited: number;
}

/** The ledger. */
export interface LedgerStore {
  /** Folds a batch in one transaction, closes what is complete, and puts a `run.closed` fact for each into the outbox. Idempotent. */
  fold(batch: FactBatch): Promise<Fold>;
  /** Facts of closed runs that the stream has not confirmed. */
  outbox(limit: number): Promise<readonly { readonly id: string; readonly data: RunClosed; readonly trace: Trace }[]>;
  clearOutbox(ids: readonly string[]): Promise<void>;
  /** What only the whole ledger knows, by job; for /metrics. */
  standing(): Promise<readonly JobStanding[]>;
  /**
   * Deletes a part of what belongs to runs closed longer ago than `retention`, at most `limit` rows at once: `more` as long as
   * there is any. The run itself goes a day later; until then its `purged_at` says that its books are no longer complete.
   */
  purge(retention: Milliseconds, limit: number): Promise<'more' | 'done'>;
}

export interface JobStanding {
  readonly job: string;
  /** Planned items that have no final outcome. While no run of the job is open this must be 0. */
  readonly unaccounted: number;
  /** When a run of the job last closed as succeeded; null when none has. */
  readonly lastSuccess: Instant | null;
}
