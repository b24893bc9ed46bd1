import type { Chunk, Milliseconds } from '@millrace/core';
import type { Job } from 'millrace';
import type { ItemResult } from './domain/results.ts';

/** Runs the logic of items in other processes, where what it does to its process harms nobody. */
export interface Isolation {
  /** Never rejects for what items do. Rejects when no process can be had: infrastructure, nobody is to blame. */
  run(work: IsolatedWork): Promise<IsolatedEnd>;
  /** Ends idle processes; those at work end with their work. */
  close(): Promise<void>;
}

export interface IsolatedWork {
  readonly job: Job;
  readonly chunk: Chunk;
  /** Indexes into `chunk.items`. */
  readonly todo: readonly number[];
  /** Items under way at once. */
  readonly concurrency: number;
  /** In a process that has run nothing before. */
  readonly fresh: boolean;
  /** After this long nothing is started any more. */
  readonly budget: Milliseconds;
  /** Ends the process: what has no result then has none. */
  readonly signal: AbortSignal;
}

export interface IsolatedEnd {
  /** By index. */
  readonly results: ReadonlyMap<number, ItemResult>;
  /** What happened to the process, as in "the process exited with code 3"; undefined while it lives. */
  readonly death: string | undefined;
  /** Items that had been started and had no result when the process died. */
  readonly underWay: readonly number[];
}
