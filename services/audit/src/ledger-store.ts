import type { ChunkSettled, RunClosed, RunOpened, RunPlanFailed, RunPlanned } from '@millrace/core';

export interface FactBatch {
  readonly opened: readonly RunOpened[];
  readonly planned: readonly RunPlanned[];
  readonly planFailed: readonly RunPlanFailed[];
  readonly settled: readonly ChunkSettled[];
}

/** The ledger. */
export interface LedgerStore {
  /** Folds a batch in one transaction, closes what is complete, and puts a `run.closed` fact for each into the outbox. Idempotent. */
  fold(batch: FactBatch): Promise<void>;
  /** Facts of closed runs that the stream has not confirmed. */
  outbox(limit: number): Promise<readonly { readonly id: string; readonly data: RunClosed }[]>;
  clearOutbox(ids: readonly string[]): Promise<void>;
}
