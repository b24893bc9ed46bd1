import type { Chunk } from '@millrace/core';
import type { SinkTransaction } from 'millrace';
import type { Settled } from './domain/results.ts';

/** Milliseconds: in the queue, in `process`, in the commit. */
export interface Timing {
  readonly queued: number;
  readonly process: number;
  readonly commit: number;
}

/** What became of a chunk, as it is stored. Facts are built from this and from nothing else. */
export interface InboxRow extends Settled {
  readonly size: number;
  readonly settledAt: number;
  readonly timing: Timing;
}

/**
 * One row per chunk and generation, in the database of the effects: the truth about what has been applied.
 * Errors are the database's own, see `Database` of @millrace/postgres.
 */
export interface Inbox {
  find(chunk: Chunk): Promise<InboxRow | undefined>;
  /** May run `work` again after a serialization failure or a deadlock: it must have no effects outside. */
  transaction<T>(work: (tx: InboxTransaction) => Promise<T>): Promise<T>;
  /**
   * Stores the rows of chunks that have none, and their effects as rows of a table, in one transaction and one round trip. Undefined
   * where the database cannot; rejects when one of the chunks has a row, and for whatever else: then nothing was stored of any,
   * unless the error says `commitUnknown`.
   */
  insertWithRows(entries: readonly Entry[], table: Table): Promise<readonly InboxRow[]> | undefined;
}

/** An effect that is a row: its fields are columns. */
export type Effect = Readonly<Record<string, unknown>>;

/** A chunk of one job, what is to be stored of it, and its effects. */
export interface Entry {
  readonly chunk: Chunk;
  readonly settled: Settled;
  readonly timing: Timing;
  readonly effects: readonly Effect[];
}

export interface Table {
  readonly table: string;
  readonly columns: readonly string[];
}

export interface InboxTransaction {
  /**
   * Undefined when the chunk has a row already; waits for a concurrent transaction that is about to make one. Rejects with
   * MR4004 when nobody can know, because rows of that age have been deleted.
   */
  insert(chunk: Chunk, settled: Settled, timing: Timing): Promise<InboxRow | undefined>;
  lock(chunk: Chunk): Promise<InboxRow | undefined>;
  update(chunk: Chunk, settled: Settled, timing: Timing): Promise<InboxRow>;
  /** Lets `write` add effects. Rejects too when it swallowed an error that has doomed the transaction. */
  effects(write: (tx: SinkTransaction) => unknown): Promise<void>;
  /** Like `effects`; when it rejects, nothing of `write` remains and the transaction goes on. */
  savepoint(write: (tx: SinkTransaction) => unknown): Promise<void>;
}
