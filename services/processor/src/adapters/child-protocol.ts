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
 * The pipe on which a child notes what it begins and ends, as pairs of 32-bit integers: the number of the work, and the index
 * of the item, negated bit by bit when it ends. Written synchronously, unlike messages, so that what was read last tells what
 * the child was doing when it died.
 */
export const NOTES_FD = 4;

/** What a child says. Of a child that dies the last ones may be lost: their items are then run again. */
export type ChildNote =
  | { readonly ready: true }
  | { readonly failed: string }
  | { readonly work: number; readonly ended: number; readonly result: ItemResult }
  | { readonly work: number; readonly over: true };
