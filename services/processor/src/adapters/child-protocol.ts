import type { Chunk, Milliseconds } from '@millrace/core';
import type { ItemResult } from '../domain/results.ts';

/** What a processor asks of a child. One piece of work at a time. */
export interface ChildWork {
  readonly work: number;
  readonly job: string;
  /** With the wanted items only; the child runs them all. */
  readonly chunk: Chunk;
  readonly concurrency: number;
  readonly budget: Milliseconds;
}

/**
 * What a child says. Notes are written to the pipe before the child goes on, so that the last one read tells what it was
 * doing when it died.
 */
export type ChildNote =
  | { readonly ready: true }
  | { readonly failed: string }
  | { readonly work: number; readonly began: number }
  | { readonly work: number; readonly ended: number; readonly result: ItemResult }
  | { readonly work: number; readonly over: true };
